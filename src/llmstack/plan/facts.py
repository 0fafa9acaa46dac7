"""A model as the planner sees it: one record per block, with bytes and cache widths.

Read from a GGUF header alone. Sources (llama.cpp build 11434): `load_hparams` (src/llama-model.cpp), the
`load_arch_hparams` and `load_arch_tensors` of src/models/*.cpp, `llama_model::create_memory`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from llmstack.gguf import GgmlType, GgufError, GgufHeader
from llmstack.gguf.header import Scalar, printable
from llmstack.plan.architectures import WINDOW_FLAGS_ONLY, Architecture, RecurrentBlocks, architecture_of
from llmstack.plan.companions import Companion, companion_of
from llmstack.plan.tensors import Group, elements, group

_FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_MOST_SCALED = 1 << 20
MAX_LAYERS = 512  # LLAMA_MAX_LAYERS, src/llama-hparams.h


class BlockKind(enum.Enum):
    """What a block keeps between tokens."""

    FULL = "full attention"
    WINDOW = "sliding-window attention"
    RECURRENT = "recurrent state"
    NONE = "nothing"


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """One block. rest, experts and dense are bytes that add up to its weights; widths are elements per cache cell.

    experts: what -ncmoe moves to RAM. dense: what -ncffn moves. rest: the others, shared experts included.
    k_width, v_width: of one cell of this block's cache, 0 when it has none or V is a view of K (latent attention).
    heads, head_dim: query heads, and values of a key's head.
    cached: this block owns a cache (gemma4's last blocks reuse another's). draft: a multi-token-prediction block,
    loaded only for `--spec-type draft-mtp`.
    largest_expert: bytes of the largest expert tensor, which op-offload copies to the GPU whole.
    ff, ffe, shared_ff: inner width of the dense part, of one expert, of the shared expert.
    """

    kind: BlockKind
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
class ModelFacts:
    """A model: figures of its file, of its output, of its kind of attention and recurrence, and its blocks.

    size_bytes, n_params: of the whole file. n_expert, n_expert_used: in a block, and chosen for a token.
    input_bytes: embeddings, which stay in RAM. output_bytes: the output matrix and its norm; of a tied model the
    embedding matrix once more. window: tokens of the sliding window, 0 without one.
    state_r, state_s: F32 elements of one recurrent block's convolution and scan state per sequence.
    ssm_*: its inner width, state size, groups and heads (time_step_rank).
    """

    name: str
    arch: str
    size_bytes: int
    n_params: int
    n_embd: int
    n_vocab: int
    n_ctx_train: int
    n_expert: int
    n_expert_used: int
    blocks: tuple[BlockFacts, ...]
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
    has_template: bool
    template_ignores_switch: bool  # it makes the model think and never reads enable_thinking
    latent: tuple[int, int, int, int] = (0, 0, 0, 0)  # MLA per head: latent, rotated, key and value widths
    path: str = ""
    rope_scaled: str = ""  # how the file itself scales positions, empty where it doesn't
    rope_factor: float = 0.0
    n_ctx_original: int = 0  # the training length before that scaling, 0 where the file doesn't say
    companion: Companion | None = None  # of a file that only guesses ahead for a large model
    architecture: Architecture = field(init=False, repr=False, compare=False)
    moe: bool = field(init=False)
    recurrent: bool = field(init=False)
    has_window: bool = field(init=False)
    n_layer: int = field(init=False)  # blocks of the trunk, without prediction blocks
    n_draft: int = field(init=False)

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the record is frozen; these follow from its blocks
        set_(self, "architecture", architecture_of(self.arch))
        set_(self, "moe", any(block.experts for block in self.blocks))
        set_(self, "recurrent", any(block.kind is BlockKind.RECURRENT for block in self.blocks))
        set_(self, "has_window", any(block.kind is BlockKind.WINDOW for block in self.blocks))
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
        return self._whole(key, value)

    def _whole(self, key: str, value: Scalar) -> int:
        """A number as the count that it must be: no NaN, no half, nothing negative."""
        if isinstance(value, str) or value != value or not 0 <= value < 1 << 40 or value != int(value):
            raise GgufError(f"{self._arch}.{key} is {printable(repr(value))}, which cannot be")
        return int(value)

    def each(self, key: str, n: int, default: int = 0) -> list[int]:
        """One number per block: a scalar is repeated (get_key_or_arr)."""
        value = self._values.get(f"{self._arch}.{key}")
        if isinstance(value, tuple):
            if len(value) < n:
                raise GgufError(f"{self._arch}.{key} has {len(value)} values for {n} blocks")
            return [self._whole(key, item) for item in value[:n]]
        return [self.get(key, default)] * n

    def has(self, key: str) -> bool:
        return f"{self._arch}.{key}" in self._values

    def array(self, key: str) -> tuple[int, ...] | None:
        value = self._values.get(f"{self._arch}.{key}")
        return tuple(self._whole(key, item) for item in value) if isinstance(value, tuple) else None


def read_facts(header: GgufHeader, *, path: str = "") -> ModelFacts:
    """A header's facts. Raises GgufError when it lacks what a plan needs."""
    keys = _Keys(header)
    architecture = architecture_of(header.arch)
    n_all = keys.get("block_count")
    if not 0 < n_all <= MAX_LAYERS:
        raise GgufError(f"the file claims {n_all} blocks")
    groups = group(header.tensors, n_all)
    latent = _latent(keys, architecture)
    blocks = _blocks(keys, architecture, groups, n_all, mla=latent is not None)
    inner, state = keys.get("ssm.inner_size", 0), keys.get("ssm.state_size", 0)
    ssm_groups, conv = keys.get("ssm.group_count", 0), keys.get("ssm.conv_kernel", 0)
    top = groups[n_all]
    companion = companion_of(header)
    blocks = _of_companion(blocks, companion) if companion is not None else blocks
    template = header.chat_template or ""
    return ModelFacts(
        name=header.name or header.arch,
        arch=header.arch,
        size_bytes=header.file_bytes,
        n_params=sum(elements(tensor) for tensor in header.tensors),
        n_embd=keys.get("embedding_length"),
        n_vocab=keys.get("vocab_size", 0) or header.n_tokens or top.vocab,
        n_ctx_train=keys.get("context_length", 0),
        n_expert=keys.get("expert_count", 0),
        n_expert_used=max(keys.each("expert_used_count", n_all, 0)),
        blocks=blocks,
        input_bytes=top.input_bytes,
        output_bytes=top.output_bytes
        or top.norm_bytes + (0 if companion and companion.borrows_output else top.embedding_bytes),
        output_pad=top.pad,
        output_amx=top.amx,
        output_types=(top.output_type, top.output_rows),
        norm_bytes=top.norm_bytes,
        tied=not top.output_bytes,
        window=keys.get("attention.sliding_window", 0),
        mla=latent is not None,
        state_r=max(conv - 1, 0) * (inner + 2 * ssm_groups * state),  # llama_hparams::n_embd_r
        state_s=state * inner,  # llama_hparams::n_embd_s
        ssm_inner=inner,
        ssm_state=state,
        ssm_groups=ssm_groups,
        ssm_rank=keys.get("ssm.time_step_rank", 0),
        has_template=bool(template),
        template_ignores_switch="<think>" in template and "enable_thinking" not in template,
        latent=latent or (0, 0, 0, 0),
        path=path,
        rope_scaled=_rope_scaled(header),
        rope_factor=_rope_factor(header),
        n_ctx_original=keys.get("rope.scaling.original_context_length", 0),
        companion=companion,
    )


def _of_companion(blocks: tuple[BlockFacts, ...], companion: Companion) -> tuple[BlockFacts, ...]:
    """Those that the file has: of a prediction head in a file of its own the trunk is missing (`mtp_only`)."""
    own = [replace(block, draft=False) for block in blocks if block.draft] or blocks
    if companion.borrows_cache:
        own = [replace(block, k_width=0, v_width=0, cached=False) for block in own]
    return tuple(own)


def _rope_scaled(header: GgufHeader) -> str:
    """The scaling of positions that a file brings along: by its keys, or by a tensor of factors (llama 3.1)."""
    kind = header.values.get(f"{header.arch}.rope.scaling.type")
    if isinstance(kind, str) and kind not in ("", "none", "linear"):
        return kind
    if _rope_factor(header) not in (0.0, 1.0):
        return "linear"
    has_factors = any(tensor.name.endswith(_FACTORS) for tensor in header.tensors)
    return "frequency factors" if has_factors else ""


def _rope_factor(header: GgufHeader) -> float:
    for key in ("rope.scaling.factor", "rope.scale_linear"):
        value = header.values.get(f"{header.arch}.{key}")
        if isinstance(value, int | float):
            if not 0 <= value < _MOST_SCALED:  # NaN is neither
                raise GgufError(f"{header.arch}.{key} is {value!r}, which cannot be")
            return float(value)
    return 0.0


def _latent(keys: _Keys, architecture: Architecture) -> tuple[int, int, int, int] | None:
    """Latent, rotated, key and value widths per head of multi-head latent attention; None without it."""
    if not architecture.latent_attention or not keys.get("attention.key_length_mla", 0):
        return None
    return (
        keys.get("attention.kv_lora_rank", 0),
        keys.get("rope.dimension_count", 64),
        keys.get("attention.key_length_mla", 0),
        keys.get("attention.value_length_mla", 0),
    )


@dataclass(frozen=True, slots=True)
class _Heads:
    """Query and K/V heads by block, and values of a head of K and of V: of full attention, and of the window's."""

    query: list[int]
    kv: list[int]
    full: tuple[int, int]
    window: tuple[int, int]


def _heads(keys: _Keys, n_all: int) -> _Heads:
    query = keys.each("attention.head_count", n_all, 0)
    kv = keys.each("attention.head_count_kv", n_all) if keys.has("attention.head_count_kv") else query
    per_head = keys.get("embedding_length") // query[0] if query and query[0] else 0
    k, v = keys.get("attention.key_length", per_head), keys.get("attention.value_length", per_head)
    return _Heads(
        query, kv, (k, v), (keys.get("attention.key_length_swa", k), keys.get("attention.value_length_swa", v))
    )


def _blocks(
    keys: _Keys, architecture: Architecture, groups: list[Group], n_all: int, *, mla: bool
) -> tuple[BlockFacts, ...]:
    n_trunk = n_all - min(keys.get("nextn_predict_layers", 0), n_all)
    heads = _heads(keys, n_all)
    ff = keys.each("feed_forward_length", n_all, 0)
    ffe = keys.each("expert_feed_forward_length", n_all, 0)
    kinds = _kinds(architecture, keys, n_all, n_trunk, heads.kv, ff)
    kv_from_start = n_all - keys.get("attention.shared_kv_layers", 0)
    shared_ff, n_shared = keys.get("expert_shared_feed_forward_length", 0), keys.get("expert_shared_count", 0)
    blocks = []
    for il in range(n_all):
        kind, parts = kinds[il], groups[il]
        attends = kind in (BlockKind.FULL, BlockKind.WINDOW)
        k_dim, v_dim = heads.window if kind is BlockKind.WINDOW else heads.full
        blocks.append(
            BlockFacts(
                kind=kind,
                rest=parts.rest,
                experts=parts.experts,
                dense=parts.dense,
                k_width=heads.kv[il] * k_dim if attends else 0,
                v_width=0 if mla or not attends else heads.kv[il] * v_dim,
                heads=heads.query[il],
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
    return tuple(blocks)


def _kinds(
    architecture: Architecture, keys: _Keys, n_all: int, n_trunk: int, kv_heads: list[int], ff: list[int]
) -> list[BlockKind]:
    recurrent = _recurrent(architecture.recurrent_blocks, keys, n_all, n_trunk, kv_heads, ff)
    windowed = _windows(architecture, keys, n_all, n_trunk)
    kinds = []
    for il in range(n_all):
        if recurrent[il]:
            kinds.append(BlockKind.RECURRENT)
        elif kv_heads[il] == 0 or (architecture.single_part_blocks and ff[il] > 0 and il < n_trunk):
            kinds.append(BlockKind.NONE)
        else:
            kinds.append(BlockKind.WINDOW if windowed[il] else BlockKind.FULL)
    return kinds


def _recurrent(
    which: RecurrentBlocks, keys: _Keys, n_all: int, n_trunk: int, kv_heads: list[int], ff: list[int]
) -> list[bool]:
    """hparams.is_recr_impl: prediction blocks behind the trunk are never recurrent."""
    if which is RecurrentBlocks.BY_INTERVAL:
        flags = keys.array("attention.recurrent_layers")
        every = keys.get("full_attention_interval", 4) or 4
        return [
            il < n_trunk and (bool(flags[il]) if flags and il < len(flags) else (il + 1) % every != 0)
            for il in range(n_all)
        ]
    if which is RecurrentBlocks.WITHOUT_KV_HEADS:
        return [kv == 0 for kv in kv_heads]
    if which is RecurrentBlocks.WITHOUT_KV_HEADS_AND_FF:
        return [il < n_trunk and kv_heads[il] == 0 and ff[il] == 0 for il in range(n_all)]
    return [keys.has("ssm.state_size") and not keys.has("attention.head_count")] * n_all


def _windows(architecture: Architecture, keys: _Keys, n_all: int, n_trunk: int) -> list[bool]:
    """Which blocks use the sliding window (hparams.is_swa_impl)."""
    period = architecture.window_period
    if period is None or not keys.get("attention.sliding_window", 0):
        return [False] * n_all
    flags = keys.array("attention.sliding_window_pattern")
    if flags is not None:
        return [il < len(flags) and bool(flags[il]) for il in range(n_all)]
    if period == WINDOW_FLAGS_ONLY:
        return [False] * n_all
    every = keys.get("attention.sliding_window_pattern", period)
    full = 0 if architecture.full_first else every - 1
    return [il < n_trunk and (every == 0 or il % every != full) for il in range(n_all)]
