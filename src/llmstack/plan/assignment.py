"""One complete choice of llama-server's flags that matter to memory and speed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmstack.gguf import GgmlType
from llmstack.llama_server import values

KV_TYPES: dict[str, GgmlType] = {name: GgmlType[name.upper()] for name in values.KV_TYPES}


@dataclass(frozen=True, slots=True)
class Assignment:
    """ngl counts as llama.cpp does: the output is the first layer, then the blocks from the last one.

    devices: the names of those that compute (-dev), ("none",) where none may. split: the share of each of the
    machine's devices, 0 for one that is left out, empty where all share by their free memory. draft_max: tokens
    guessed ahead, 0 for none; drafter: by a draft model instead of the file's prediction (MTP) block. has_gpu: the
    machine has a device, so that ngl = 0 must also switch it off. no_repack: weights in RAM stay as they are.
    cache_ram_mib and checkpoints are host memory outside llama.cpp's own report. rope_scaling: yarn where the user
    stretches the context. moe_cache_mib: MiB of all devices together for experts that are in RAM, if the user pins it.
    ngram_max: tokens that are guessed from the conversation's own text, if the user pins it or `tune` found it.
    """

    ctx: int
    ngl: int
    ncmoe: int = 0
    ncffn: int = 0
    moe_cache_mib: int = 0
    nkvo: bool = False
    type_k: str = "q4_0"
    type_v: str = "q4_0"
    parallel: int = 1
    kv_unified: bool = False
    batch: int = 2048
    ubatch: int = 512
    load_mode: str = "mmap"
    cache_ram_mib: int = 0
    checkpoints: int = 0
    swa_full: bool = False
    draft_max: int = 0
    drafter: bool = False
    split: tuple[float, ...] = ()
    devices: tuple[str, ...] = ()
    threads: int = 0
    threads_batch: int = 0
    has_gpu: bool = False
    no_repack: bool = False
    rope_scaling: str = ""
    ngram_max: int = 0

    @property
    def ctx_slot(self) -> int:
        """Tokens of one slot, before the model's own limit: with one cache for all, any slot may take all of it."""
        return self.ctx if self.kv_unified else self.ctx // self.parallel

    @property
    def block_guesses(self) -> int:
        """Tokens that the file's own prediction (MTP) block drafts."""
        return 0 if self.drafter else self.draft_max

    @property
    def model_guesses(self) -> int:
        """Tokens that a draft model drafts."""
        return self.draft_max if self.drafter else 0


NO_DEVICE = ("none",)  # what -dev takes for none
DRAFT_KV = "f16"  # the draft model's cache: llama-server's own default, written out


def draft_assignment(a: Assignment, *, layers: int) -> Assignment:
    """What the draft model gets: the large one's context, slots and batches, and all its layers beside it.

    common_base_params_to_speculative and common_speculative_init_result (common/speculative.cpp, build 11434).
    """
    same = replace(a, ncmoe=0, ncffn=0, type_k=DRAFT_KV, type_v=DRAFT_KV, cache_ram_mib=0, checkpoints=0)
    return replace(same, ngl=layers if a.ngl else 0, draft_max=0, drafter=False, split=())


def on_cpu(a: Assignment, *, moe: bool, blocks: int) -> Assignment:
    """The same with the experts (or, without experts, the feed-forward weights) of the first blocks in RAM."""
    return replace(a, ncmoe=blocks) if moe else replace(a, ncffn=blocks)
