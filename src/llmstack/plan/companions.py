"""Files that only guess ahead for one large model: what they are trained for, and what the large model must hold ready.

llama-server takes them by `-md` like a smaller sibling. Sources (llama.cpp build 11434): common/speculative.cpp
(common_speculative_types_from_gguf, the constructors of common_speculative_impl_draft_*), src/models/eagle3.cpp,
dflash.cpp, gemma4-assistant.cpp, and the `mtp_only` branches of load_arch_tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.gguf import GgufHeader
from llmstack.gguf.kinds import is_prediction_only
from llmstack.plan.architectures import architecture_of

MTP, EAGLE3, DFLASH, DSPARK = "draft-mtp", "draft-eagle3", "draft-dflash", "draft-dspark"
_CALLED = {
    MTP: "a prediction (MTP) head in a file of its own",
    EAGLE3: "an EAGLE-3 drafter",
    DFLASH: "a DFlash drafter",
    DSPARK: "a DSpark drafter",
}
_BLOCK_SIZE = 16  # where the file does not say: common_speculative_impl_draft_dflash


@dataclass(frozen=True, slots=True)
class Companion:
    """spec_type: the value of --spec-type. width: of the hidden states it reads, which is the large model's.

    reads: the blocks of the large model whose inputs it reads. most: tokens that it can guess in a row, 0 for any;
    one_pass: all of them in one pass. borrows_cache: it attends to the large model's cache and has none.
    borrows_output: it multiplies with the large model's output matrix. is_block: a prediction block as other models
    have it in their own file. row: values per token of what a graph of its own has beside its blocks.
    """

    spec_type: str
    width: int
    reads: tuple[int, ...] = ()
    most: int = 0
    one_pass: bool = False
    borrows_cache: bool = False
    borrows_output: bool = False
    is_block: bool = False
    row: int = 0

    @property
    def called(self) -> str:
        return _CALLED[self.spec_type]

    def extracted_bytes(self, tokens: int) -> int:
        """What the large model keeps for it of so many tokens: F32 rows (llama_context::output_reserve)."""
        return 4 * tokens * self.width * max(len(self.reads), 1)

    def why_not(self, n_embd: int, n_layer: int) -> str:
        """Why it was not made for a model of this width and so many blocks; empty where it may have been."""
        if self.width != n_embd:
            return f"it was made for a model of width {self.width}, this one has {n_embd}"
        if any(il > n_layer for il in self.reads):
            return f"it reads block {max(self.reads)} of a model, this one has {n_layer}"
        return ""


def companion_of(header: GgufHeader) -> Companion | None:
    """The companion that a file is; None for a model that can answer."""
    names = {tensor.name for tensor in header.tensors}
    width = _number(header, "embedding_length")
    reads = _numbers(header, "target_layers")
    top = ("output.weight" in names, "token_embd.weight" in names)
    match architecture_of(header.arch).companion:
        case "draft-eagle3":
            hidden = _number(header, "target_hidden_size") or width
            return Companion(EAGLE3, hidden, reads, borrows_output=not top[0], row=(len(reads) + 3) * hidden)
        case "draft-dflash":
            size = _number(header, "block_size") or _BLOCK_SIZE
            kind, most = (DSPARK, size) if "markov_w1.weight" in names else (DFLASH, size - 1)
            return Companion(kind, width, reads, most, one_pass=True, borrows_output=not any(top))
        case "draft-mtp":  # a head of an architecture of its own, which uses the large model's cache
            backbone = _number(header, "embedding_length_out")
            return Companion(MTP, backbone, borrows_cache=True, row=4 * backbone)
    if is_prediction_only(header):
        return Companion(MTP, width, is_block=True)
    return None


def _number(header: GgufHeader, key: str) -> int:
    value = header.values.get(f"{header.arch}.{key}", 0)
    return value if isinstance(value, int) and 0 <= value < 1 << 30 else 0


def _numbers(header: GgufHeader, key: str) -> tuple[int, ...]:
    value = header.values.get(f"{header.arch}.{key}", ())
    if not isinstance(value, tuple) or len(value) > 1024:
        return ()
    return tuple(item for item in value if isinstance(item, int) and 0 <= item < 1 << 16)
