"""A model as the planner sees it: one record per block, with bytes and cache widths.

Read from a GGUF header alone. Sources (llama.cpp build 11434): `load_hparams` (src/llama-model.cpp), the
`load_arch_hparams` and `load_arch_tensors` of src/models/*.cpp, `llama_model::create_memory`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from llmstack.gguf import GgmlType, GgufError, GgufHeader
from llmstack.plan.tensors import elements, group

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS, src/llama-hparams.h

# Architectures whose formulas were checked against llama.cpp's own report; see docs/planner.md.
KNOWN = frozenset(
    {
        "llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "qwen3next", "qwen35", "qwen35moe", "gpt-oss",
        "gemma3", "gemma4", "glm4moe", "deepseek2", "mistral3", "granitehybrid", "nemotron_h", "nemotron_h_moe",
    }
)  # fmt: skip
DELTA_NET = frozenset({"qwen3next", "qwen35", "qwen35moe"})
MAMBA = frozenset({"granitehybrid", "nemotron_h", "nemotron_h_moe"})
UNGATED = frozenset({"nemotron_h", "nemotron_h_moe"})  # relu squared, no gate
_SWA_PATTERN = {"gpt-oss": 2, "gemma3": 6}  # load_swa_pattern(ml, N) of each model


class Kind(enum.Enum):
    """What a block keeps between tokens."""

    FULL = "full attention"
    WINDOW = "sliding-window attention"
    RECURRENT = "recurrent state"
    NONE = "nothing"


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes: rest + experts + dense are the block's weights. Widths are elements per cell.

    cached: this block owns a cache (gemma4's last blocks reuse another's). draft: a multi-token-prediction
    block, loaded only for `--spec-type draft-mtp`. scan_bytes: expert tensors' largest one (what op-offload
    stages). params: active weight elements (experts counted as used / all).
    """

    kind: Kind
    rest: int
    experts: int
    dense: int
    k_width: int
    v_width: int
    heads: int
    head_dim: int
    cached: bool
    draft: bool
    largest_expert: int
    ff: int
    ffe: int
    shared_ff: int
    pad: int  # CUDA's extra bytes for quantised rows that are no multiple of 512
    amx: int  # extra bytes when the CPU repacks this block's matrices for AMX
    amx_dense: int  # the same for what -ncffn moves


@dataclass(frozen=True, slots=True)
class Facts:
    """state_r, state_s: F32 elements of one recurrent block's convolution and scan state per sequence."""

    name: str
    arch: str
    size_bytes: int
    n_params: int
    n_embd: int
    n_vocab: int
    n_ctx_train: int
    n_expert: int
    n_expert_used: int
    blocks: tuple[Block, ...]
    input_bytes: int
    output_bytes: int
    output_pad: int
    output_amx: int
    output_types: tuple[GgmlType, int]  # the output matrix: its type and its rows
    norm_bytes: int
    tied: bool
    window: int
    mla: bool
    state_r: int
    state_s: int
    ssm_inner: int
    ssm_state: int
    ssm_groups: int
    ssm_rank: int
    known: bool
    has_template: bool
    template_ignores_switch: bool  # it makes the model think and never reads enable_thinking
    latent: tuple[int, int, int, int] = (0, 0, 0, 0)  # MLA per head: latent, rotated, key and value widths
    path: str = ""
    moe: bool = field(init=False)
    recurrent: bool = field(init=False)
    has_window: bool = field(init=False)
    n_layer: int = field(init=False)  # blocks of the trunk, without prediction blocks
    n_draft: int = field(init=False)

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the record is frozen; these follow from its blocks
        set_(self, "moe", any(block.experts for block in self.blocks))
        set_(self, "recurrent", any(block.kind is Kind.RECURRENT for block in self.blocks))
        set_(self, "has_window", any(block.kind is Kind.WINDOW for block in self.blocks))
        set_(self, "n_draft", sum(block.draft for block in self.blocks))
        set_(self, "n_layer", len(self.blocks) - self.n_draft)

    @property
    def n_layer_all(self) -> int:
        return len(self.blocks)

    @property
    def latent_row(self) -> int:
        """Values per head alive at once: the absorbed query, the latent result, its projection, the plain query."""
        lora, rope, k_mla, v_mla = self.latent
        return (lora + rope) + lora + v_mla + max(k_mla - rope, 0)

    @property
    def expert_share(self) -> float:
        """The part of the expert bytes one token reads."""
        return self.n_expert_used / self.n_expert if self.n_expert else 0.0


class _Keys:
    """Reads `{arch}.` keys with the checks of get_key and get_key_or_arr."""

    def __init__(self, header: GgufHeader) -> None:
        self._values = header.values
        self._arch = header.arch

    def get(self, key: str, default: int | None = None) -> int:
        value = self._values.get(f"{self._arch}.{key}", default)
        if isinstance(value, tuple):
            value = value[0] if value else default
        if value is None or isinstance(value, str):
            raise GgufError(f"the file lacks {self._arch}.{key}, which a plan needs")
        number = int(value)
        if not 0 <= number < 1 << 40:
            raise GgufError(f"{self._arch}.{key} is {number}, which cannot be")
        return number

    def each(self, key: str, n: int, default: int = 0) -> list[int]:
        """One number per block: a scalar is repeated (get_key_or_arr)."""
        value = self._values.get(f"{self._arch}.{key}")
        if isinstance(value, tuple):
            if len(value) < n or any(isinstance(item, str) for item in value):
                raise GgufError(f"{self._arch}.{key} has {len(value)} values for {n} blocks")
            return [int(item) for item in value[:n]]
        return [self.get(key, default)] * n

    def has(self, key: str) -> bool:
        return f"{self._arch}.{key}" in self._values

    def array(self, key: str) -> tuple[int, ...] | None:
        value = self._values.get(f"{self._arch}.{key}")
        return tuple(int(item) for item in value) if isinstance(value, tuple) else None


def read_facts(header: GgufHeader, *, path: str = "") -> Facts:
    """Raises GgufError when the header lacks what a plan needs."""
    arch = header.arch
    keys = _Keys(header)
    n_all = keys.get("block_count")
    if not 0 < n_all <= MAX_LAYERS:
        raise GgufError(f"the file claims {n_all} blocks")
    n_draft = min(keys.get("nextn_predict_layers", 0), n_all)
    n_trunk = n_all - n_draft
    n_embd = keys.get("embedding_length")
    heads = keys.each("attention.head_count", n_all, 0)
    kv_heads = keys.each("attention.head_count_kv", n_all) if keys.has("attention.head_count_kv") else heads
    per_head = n_embd // heads[0] if heads and heads[0] else 0
    k_full = keys.get("attention.key_length", per_head)
    v_full = keys.get("attention.value_length", per_head)
    k_swa, v_swa = keys.get("attention.key_length_swa", k_full), keys.get("attention.value_length_swa", v_full)
    mla = keys.get("attention.key_length_mla", 0) > 0 and arch == "deepseek2"
    ff = keys.each("feed_forward_length", n_all, 0)
    ffe = keys.each("expert_feed_forward_length", n_all, 0)
    used = max(keys.each("expert_used_count", n_all, 0))
    window = keys.get("attention.sliding_window", 0)
    kinds = _kinds(arch, keys, n_all, n_trunk, kv_heads, ff, window)
    kv_from_start = n_all - keys.get("attention.shared_kv_layers", 0)
    groups = group(header.tensors, n_all)
    shared_ff = keys.get("expert_shared_feed_forward_length", 0)
    n_shared = keys.get("expert_shared_count", 0)
    blocks = []
    for il in range(n_all):
        kind = kinds[il]
        attends = kind in (Kind.FULL, Kind.WINDOW)
        k_dim, v_dim = (k_swa, v_swa) if kind is Kind.WINDOW else (k_full, v_full)
        parts = groups[il]
        blocks.append(
            Block(
                kind=kind,
                rest=parts.rest,
                experts=parts.experts,
                dense=parts.dense,
                k_width=kv_heads[il] * k_dim if attends else 0,
                v_width=0 if mla or not attends else kv_heads[il] * v_dim,
                heads=heads[il],
                head_dim=k_dim,
                cached=attends and il < kv_from_start,
                draft=il >= n_trunk,
                largest_expert=parts.largest_expert,
                ff=parts.ff or (0 if parts.experts else ff[il]),
                ffe=parts.ffe or ffe[il],
                shared_ff=parts.shared_ff or shared_ff or n_shared * ffe[il],
                pad=parts.pad,
                amx=parts.amx,
                amx_dense=parts.amx_dense,
            )
        )
    inner, state = keys.get("ssm.inner_size", 0), keys.get("ssm.state_size", 0)
    ssm_groups, conv = keys.get("ssm.group_count", 0), keys.get("ssm.conv_kernel", 0)
    top = groups[n_all]
    template = header.chat_template or ""
    vocab = keys.get("vocab_size", 0) or header.n_tokens or top.vocab
    return Facts(
        name=header.name or arch,
        arch=arch,
        size_bytes=header.file_bytes,
        n_params=sum(elements(tensor) for tensor in header.tensors),
        n_embd=n_embd,
        n_vocab=vocab,
        n_ctx_train=keys.get("context_length", 0),
        n_expert=keys.get("expert_count", 0),
        n_expert_used=used,
        blocks=tuple(blocks),
        input_bytes=top.input_bytes,
        output_bytes=top.output_bytes or top.embedding_bytes + top.norm_bytes,
        output_pad=top.pad,
        output_amx=top.amx,
        output_types=(top.output_type, top.output_rows),
        norm_bytes=top.norm_bytes,
        tied=not top.output_bytes,
        window=window,
        mla=mla,
        state_r=max(conv - 1, 0) * (inner + 2 * ssm_groups * state),  # llama_hparams::n_embd_r
        state_s=state * inner,  # llama_hparams::n_embd_s
        ssm_inner=inner,
        ssm_state=state,
        ssm_groups=ssm_groups,
        ssm_rank=keys.get("ssm.time_step_rank", 0),
        known=arch in KNOWN,
        has_template=bool(template),
        template_ignores_switch="<think>" in template and "enable_thinking" not in template,
        latent=_latent(keys) if mla else (0, 0, 0, 0),
        path=path,
    )


def _latent(keys: _Keys) -> tuple[int, int, int, int]:
    return (
        keys.get("attention.kv_lora_rank", 0),
        keys.get("rope.dimension_count", 64),
        keys.get("attention.key_length_mla", 0),
        keys.get("attention.value_length_mla", 0),
    )


def _kinds(
    arch: str, keys: _Keys, n_all: int, n_trunk: int, kv_heads: list[int], ff: list[int], window: int
) -> list[Kind]:
    recurrent = [False] * n_all
    if arch in DELTA_NET:
        flags = keys.array("attention.recurrent_layers")
        every = keys.get("full_attention_interval", 4) or 4
        recurrent = [
            il < n_trunk and (bool(flags[il]) if flags and il < len(flags) else (il + 1) % every != 0)
            for il in range(n_all)
        ]
    elif arch == "granitehybrid":
        recurrent = [kv == 0 for kv in kv_heads]
    elif arch in MAMBA:
        recurrent = [il < n_trunk and kv_heads[il] == 0 and ff[il] == 0 for il in range(n_all)]
    elif keys.has("ssm.state_size") and not keys.has("attention.head_count"):
        recurrent = [True] * n_all
    windowed = _windows(arch, keys, n_all, n_trunk, window)
    kinds = []
    for il in range(n_all):
        if recurrent[il]:
            kinds.append(Kind.RECURRENT)
        elif kv_heads[il] == 0 or (arch in ("nemotron_h", "nemotron_h_moe") and ff[il] > 0):
            kinds.append(Kind.NONE)
        else:
            kinds.append(Kind.WINDOW if windowed[il] else Kind.FULL)
    return kinds


def _windows(arch: str, keys: _Keys, n_all: int, n_trunk: int, window: int) -> list[bool]:
    """Which blocks use the sliding window. An architecture we don't know keeps full caches: an upper bound."""
    if not window:
        return [False] * n_all
    flags = keys.array("attention.sliding_window_pattern")
    if flags is not None and (arch in _SWA_PATTERN or arch == "gemma4"):
        return [il < len(flags) and bool(flags[il]) for il in range(n_all)]
    if arch not in _SWA_PATTERN:
        return [False] * n_all
    every = keys.get("attention.sliding_window_pattern", _SWA_PATTERN[arch])
    return [il < n_trunk and (every == 0 or il % every < every - 1) for il in range(n_all)]
