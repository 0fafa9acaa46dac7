"""What distinguishes one model architecture from another, as one record each.

llama.cpp has a file per architecture (src/models/*.cpp): `load_arch_hparams` says what its blocks keep between tokens,
`load_arch_tensors` which tensors they have, the graph's constructor in which order they are computed. A record states
what the planner needs from these three; every default is what most decoders do (src/models/llama.cpp). Nothing else in
plan/ or catalog/ asks for an architecture by its name.

A new architecture is one record here and one cell in tests/system/plan/test_planner_oracle.py, where llama-server's own
report of its memory is the judge. Sources: llama.cpp build 11434.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Recurrence(enum.Enum):
    """Which graph a recurrent block has."""

    DELTA_NET = "gated delta net"  # src/models/delta-net-base.cpp
    MAMBA2 = "Mamba-2"  # build_mamba2_layer, src/models/mamba-base.cpp


class RecurrentBlocks(enum.Enum):
    """Which blocks are recurrent (hparams.is_recr_impl, set by load_arch_hparams)."""

    WITHOUT_HEADS = "all, when the file gives a state size and no attention heads"
    BY_INTERVAL = "attention.recurrent_layers, else all but every full_attention_interval-th"
    WITHOUT_KV_HEADS = "those whose head_count_kv is 0"
    WITHOUT_KV_HEADS_AND_FF = "those whose head_count_kv and feed_forward_length are both 0"


class SharedGate(enum.Enum):
    """What scales the shared expert's result."""

    NONE = "nothing"
    SIGMOID = "sigmoid(x)"
    SILU_RATIO = "silu(x) / x, the same number by two operations"


class TensorLayout(enum.Enum):
    """Which function of catalog.shape lists the tensors (load_arch_tensors)."""

    PLAIN = "attention, then a dense feed-forward part (of leading blocks, or of all) or experts"
    QWEN_HYBRID = "delta nets with full attention in between"
    GPT_OSS = "biases everywhere, attention sinks"
    GLM4_MOE = "leading dense blocks, prediction blocks"
    LATENT = "multi-head latent attention"
    GEMMA4 = "a dense part beside the experts"
    GRANITE_HYBRID = "Mamba-2 or attention, each with a feed-forward part"
    NEMOTRON_H_MOE = "each block one of Mamba-2, attention or experts"


class OutputGate(enum.Enum):
    """How wide the gate on attention's result is, where a matrix of its own (attn_gate) makes it."""

    NONE = "there is none"
    PER_HEAD = "one value for each head"
    PER_VALUE = "one for each value of each head"


WINDOW_FLAGS_ONLY = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Architecture:
    """One architecture. name is the GGUF's `general.architecture`; source the file of llama.cpp that was read.

    checked: its planned memory was compared with llama-server's own report (docs/planner.md).
    companion: the --spec-type by which such a file guesses ahead for a large model; empty for those that answer.

    What blocks keep:
    window_period: which blocks use the sliding window. None: none of them, so that caches are an upper bound.
        N: all but every N-th (`load_swa_pattern(ml, N)`), where the file gives neither flags nor a period of its own.
        WINDOW_FLAGS_ONLY: those that the file flags in attention.sliding_window_pattern.
    full_first: of each N blocks the first is the full one, not the last (load_swa_pattern's dense_first).
    latent_attention: multi-head latent attention when the file has key_length_mla: the cache holds one latent row.
    recurrence, recurrent_blocks: which graph recurrent blocks have, and which blocks they are.
    single_part_blocks: a block is a mixer or a feed-forward part, never both.

    Attention:
    qk_norms, qkv_bias: norms of Q and K per head; biases of Q, K and V.
    value_norm: V is normed too.
    query_gate: the query's matrix yields a gate for the result as well. output_gate: a matrix of its own does.
    rope: positions are rotated into Q and K. positions_per_token: 4 for multi-axis rotation (n_pos_per_embd).

    Feed-forward part:
    gated: up and gate are multiplied; without, it is relu squared of up (LLM_FFN_RELU_SQR).
    expert_bias: experts are chosen by scores with a bias (exp_probs_b).
    expert_weights_norm: the weights of the chosen experts are divided by their sum (norm_w).
    gate_up_fused: gate and up of the experts are one matrix (ffn_gate_up_exps).
    dense_beside_experts: each block has a dense part beside its experts, with norms of its own.
    shared_gate: what scales the shared expert's result.

    Other steps of the graph:
    embedding_scaled: embeddings are multiplied by a scale per token (build_inp_embd's tok_scale).
    residual_scaled: each part's result is scaled before it is added (f_residual_scale).
    early_state: a recurrent block's state is read in the block before, as no experts stand between.
    beta_alpha_fused: a delta net's beta and alpha come from one matrix (ssm_ba).
    key_heads_repeated: a delta net's Q and K are repeated to its number of value heads.

    Files of the catalog:
    tensors: which tensors catalog.shape gives it; None when the catalog cannot describe it.
    block_norms: names of the norms before the two parts of a block.
    expert_type: the type that its makers trained, which published sizes keep; empty when they convert all.
    """

    name: str
    source: str
    checked: bool = True
    companion: str = ""
    window_period: int | None = None
    full_first: bool = False
    latent_attention: bool = False
    recurrence: Recurrence | None = None
    recurrent_blocks: RecurrentBlocks = RecurrentBlocks.WITHOUT_HEADS
    single_part_blocks: bool = False
    qk_norms: bool = False
    qkv_bias: bool = False
    value_norm: bool = False
    query_gate: bool = False
    output_gate: OutputGate = OutputGate.NONE
    rope: bool = True
    positions_per_token: int = 1
    gated: bool = True
    expert_bias: bool = False
    expert_weights_norm: bool = False
    gate_up_fused: bool = False
    dense_beside_experts: bool = False
    shared_gate: SharedGate = SharedGate.NONE
    embedding_scaled: bool = False
    residual_scaled: bool = False
    early_state: bool = False
    beta_alpha_fused: bool = False
    key_heads_repeated: bool = False
    tensors: TensorLayout | None = None
    block_norms: tuple[str, ...] = ("attn_norm", "ffn_norm")
    expert_type: str = ""

    @property
    def delta_net(self) -> bool:
        """Recurrent blocks are gated delta nets."""
        return self.recurrence is Recurrence.DELTA_NET

    @property
    def mamba2(self) -> bool:
        """Recurrent blocks are Mamba-2."""
        return self.recurrence is Recurrence.MAMBA2


# What is assumed of an architecture without a record: a decoder's usual blocks, full caches, order of tensors a guess.
UNCHECKED = Architecture(name="", source="src/llama-graph.cpp", checked=False)

POST_ATTENTION = ("attn_norm", "post_attention_norm")
GEMMA_NORMS = ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")

_RECORDS = (
    Architecture(name="llama", source="src/models/llama.cpp", tensors=TensorLayout.PLAIN),
    Architecture(name="mistral3", source="src/models/mistral3.cpp", tensors=TensorLayout.PLAIN),
    Architecture(
        name="seed_oss",
        source="src/models/seed-oss.cpp",
        qkv_bias=True,
        tensors=TensorLayout.PLAIN,
        block_norms=POST_ATTENTION,
    ),
    Architecture(name="qwen2", source="src/models/qwen2.cpp", qkv_bias=True, tensors=TensorLayout.PLAIN),
    Architecture(
        name="qwen2moe",
        source="src/models/qwen2moe.cpp",
        qkv_bias=True,
        shared_gate=SharedGate.SILU_RATIO,
    ),
    Architecture(name="qwen3", source="src/models/qwen3.cpp", qk_norms=True, tensors=TensorLayout.PLAIN),
    Architecture(
        name="qwen3moe",
        source="src/models/qwen3moe.cpp",
        qk_norms=True,
        expert_weights_norm=True,
        tensors=TensorLayout.PLAIN,
    ),
    Architecture(
        name="qwen3next",
        source="src/models/qwen3next.cpp",
        recurrence=Recurrence.DELTA_NET,
        recurrent_blocks=RecurrentBlocks.BY_INTERVAL,
        qk_norms=True,
        query_gate=True,
        expert_weights_norm=True,
        shared_gate=SharedGate.SIGMOID,
        beta_alpha_fused=True,
        key_heads_repeated=True,
        tensors=TensorLayout.QWEN_HYBRID,
        block_norms=POST_ATTENTION,
    ),
    Architecture(
        name="qwen35",
        source="src/models/qwen35.cpp",
        recurrence=Recurrence.DELTA_NET,
        recurrent_blocks=RecurrentBlocks.BY_INTERVAL,
        qk_norms=True,
        query_gate=True,
        positions_per_token=4,
        shared_gate=SharedGate.SIGMOID,
        tensors=TensorLayout.QWEN_HYBRID,
        block_norms=POST_ATTENTION,
    ),
    Architecture(
        name="qwen35moe",
        source="src/models/qwen35moe.cpp",
        recurrence=Recurrence.DELTA_NET,
        recurrent_blocks=RecurrentBlocks.BY_INTERVAL,
        qk_norms=True,
        query_gate=True,
        positions_per_token=4,
        expert_weights_norm=True,
        shared_gate=SharedGate.SIGMOID,
        tensors=TensorLayout.QWEN_HYBRID,
        block_norms=POST_ATTENTION,
    ),
    Architecture(
        name="gpt-oss",
        source="src/models/openai-moe.cpp",
        window_period=2,
        qkv_bias=True,
        tensors=TensorLayout.GPT_OSS,
        block_norms=POST_ATTENTION,
        expert_type="MXFP4",
    ),
    Architecture(
        name="gemma3",
        source="src/models/gemma3.cpp",
        window_period=6,
        qk_norms=True,
        embedding_scaled=True,
        block_norms=GEMMA_NORMS,
    ),
    Architecture(
        name="glm4moe",
        source="src/models/glm4-moe.cpp",
        qkv_bias=True,
        expert_bias=True,
        tensors=TensorLayout.GLM4_MOE,
        block_norms=POST_ATTENTION,
    ),
    Architecture(
        name="deepseek2",
        source="src/models/deepseek2.cpp",
        latent_attention=True,
        expert_bias=True,
        tensors=TensorLayout.LATENT,
    ),
    Architecture(
        name="gemma4",
        source="src/models/gemma4.cpp",
        window_period=WINDOW_FLAGS_ONLY,
        qk_norms=True,
        value_norm=True,
        expert_weights_norm=True,
        gate_up_fused=True,
        dense_beside_experts=True,
        embedding_scaled=True,
        tensors=TensorLayout.GEMMA4,
        block_norms=GEMMA_NORMS,
    ),
    Architecture(
        name="granitehybrid",
        source="src/models/granite-hybrid.cpp",
        recurrence=Recurrence.MAMBA2,
        recurrent_blocks=RecurrentBlocks.WITHOUT_KV_HEADS,
        expert_weights_norm=True,
        residual_scaled=True,
        tensors=TensorLayout.GRANITE_HYBRID,
    ),
    Architecture(
        name="nemotron_h",
        source="src/models/nemotron-h.cpp",
        recurrence=Recurrence.MAMBA2,
        recurrent_blocks=RecurrentBlocks.WITHOUT_KV_HEADS_AND_FF,
        single_part_blocks=True,
        rope=False,
        gated=False,
        early_state=True,
        block_norms=("attn_norm",),
    ),
    Architecture(
        name="nemotron_h_moe",
        source="src/models/nemotron-h-moe.cpp",
        recurrence=Recurrence.MAMBA2,
        recurrent_blocks=RecurrentBlocks.WITHOUT_KV_HEADS_AND_FF,
        single_part_blocks=True,
        rope=False,
        gated=False,
        expert_bias=True,
        tensors=TensorLayout.NEMOTRON_H_MOE,
        block_norms=("attn_norm",),
    ),
    Architecture(
        name="granite",
        source="src/models/granite.cpp",
        embedding_scaled=True,
        residual_scaled=True,
        tensors=TensorLayout.PLAIN,
    ),
    Architecture(
        name="laguna",
        source="src/models/laguna.cpp",
        window_period=4,
        full_first=True,
        qk_norms=True,
        output_gate=OutputGate.PER_HEAD,
        expert_bias=True,
        expert_weights_norm=True,
        tensors=TensorLayout.PLAIN,
    ),
    # whose caches were compared and whose compute buffers were not: a plan leaves more room, and says so
    Architecture(
        name="muse-glimmer",
        source="src/models/muse-glimmer.cpp",
        checked=False,
        window_period=4,
        qk_norms=True,
        output_gate=OutputGate.PER_VALUE,
        tensors=TensorLayout.PLAIN,
        block_norms=GEMMA_NORMS,
    ),
    Architecture(
        name="cohere2moe",
        source="src/models/cohere2moe.cpp",
        checked=False,
        window_period=4,
        full_first=True,
        expert_weights_norm=True,
        tensors=TensorLayout.PLAIN,
        block_norms=("attn_norm",),
    ),
    # of companions (plan.companions): their windows are known, the order of their tensors is a guess
    Architecture(
        name="gemma4-assistant",
        source="src/models/gemma4-assistant.cpp",
        checked=False,
        companion="draft-mtp",
        window_period=WINDOW_FLAGS_ONLY,
    ),
    Architecture(
        name="dflash",
        source="src/models/dflash.cpp",
        checked=False,
        companion="draft-dflash",
        window_period=WINDOW_FLAGS_ONLY,
    ),
    Architecture(name="eagle3", source="src/models/eagle3.cpp", checked=False, companion="draft-eagle3"),
)

ARCHITECTURES: Mapping[str, Architecture] = {record.name: record for record in _RECORDS}


def maker_of(name: str) -> str:
    """Whose models have this `general.architecture`, for what is known of a maker's models; empty for others."""
    return next((maker for start, maker in (("gemma", "Gemma"), ("qwen", "Qwen")) if name.startswith(start)), "")


def architecture_of(name: str) -> Architecture:
    """The record of a GGUF's `general.architecture`; UNCHECKED when there is none."""
    return ARCHITECTURES.get(name, UNCHECKED)
