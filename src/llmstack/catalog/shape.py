"""A model's header from a few dimensions: what a plan needs before the file is on the machine.

Tensor names and shapes: llama.cpp's src/models/ARCH.cpp (load_arch_tensors), build 11434. Types:
`llama_tensor_get_type_impl` in src/llama-quant.cpp. A published size then settles the mix that a maker of
quants chose himself (the "UD" ones): feed-forward tensors move one type up or down until the sum fits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmstack.catalog import quants
from llmstack.catalog.models import Drafter, Model, quant_of, stem_of
from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.gguf import GgufHeader, TensorInfo, tensor_bytes
from llmstack.gguf.header import HeaderValue
from llmstack.plan.architectures import ARCHITECTURES, Architecture, OutputGate, SharedGate, TensorLayout

ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT
OVERHEAD = 11 << 20  # bytes of a header with a vocabulary of 150,000 to 250,000 tokens; published files: 6 to 20 MB

REQUIRED = ("block_count", "embedding_length", "vocab_size", "context_length")


@dataclass(slots=True)
class Builder:
    """Collects (name, shape) in file order; `get` reads the shape's values."""

    architecture: Architecture
    values: Mapping[str, Any]
    tensors: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def get(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadInput(f"the shape lacks {key}")
        return value

    def at(self, key: str, layer: int, default: int | None = None) -> int:
        """A value that may be one number, or one per layer."""
        value = self.values.get(key)
        if isinstance(value, list | tuple):
            return int(value[layer])
        return self.get(key, default)

    @property
    def width(self) -> int:
        return self.get("embedding_length")

    @property
    def layers(self) -> int:
        return self.get("block_count")

    def add(self, name: str, *shape: int) -> None:
        self.tensors.append((name, shape))

    def block(self, layer: int, name: str, *shape: int) -> None:
        self.add(f"blk.{layer}.{name}", *shape)

    def norms(self, layer: int, *names: str) -> None:
        for name in names:
            self.block(layer, f"{name}.weight", self.width)

    def block_norms(self, layer: int) -> None:
        self.norms(layer, *self.architecture.block_norms)

    def attention(self, layer: int) -> None:
        """build_qkv's matrices, with the norms and biases that the architecture has."""
        heads, kv = self.at("attention.head_count", layer), self.at("attention.head_count_kv", layer)
        size = self.head_size(layer)
        self.block(layer, "attn_q.weight", self.width, heads * size * (2 if self.architecture.query_gate else 1))
        self.block(layer, "attn_k.weight", self.width, kv * size)
        self.block(layer, "attn_v.weight", self.width, kv * size)
        self.block(layer, "attn_output.weight", heads * size, self.width)
        if self.architecture.output_gate is not OutputGate.NONE:
            wide = size if self.architecture.output_gate is OutputGate.PER_VALUE else 1
            self.block(layer, "attn_gate.weight", self.width, heads * wide)
        if self.architecture.qk_norms:
            self.block(layer, "attn_q_norm.weight", size)
            self.block(layer, "attn_k_norm.weight", size)
        if self.architecture.qkv_bias:
            for part, count in (("q", heads), ("k", kv), ("v", kv)):
                self.block(layer, f"attn_{part}.bias", count * size)

    def head_size(self, layer: int) -> int:
        pattern = self.values.get("attention.sliding_window_pattern")
        if isinstance(pattern, list | tuple) and pattern[layer] and "attention.key_length_swa" in self.values:
            return self.get("attention.key_length_swa")
        return self.get("attention.key_length")

    def dense(self, layer: int, inner: int) -> None:
        self.block(layer, "ffn_gate.weight", self.width, inner)
        self.block(layer, "ffn_up.weight", self.width, inner)
        self.block(layer, "ffn_down.weight", inner, self.width)

    def experts(self, layer: int) -> None:
        gated, shared_gate = self.architecture.gated, self.architecture.shared_gate is not SharedGate.NONE
        count, inner = self.get("expert_count"), self.get("expert_feed_forward_length", 0)
        inner = inner or self.at("feed_forward_length", layer)
        shared = self.get("expert_shared_feed_forward_length", 0)
        self.block(layer, "ffn_gate_inp.weight", self.width, count)
        if gated:
            self.block(layer, "ffn_gate_exps.weight", self.width, inner, count)
        self.block(layer, "ffn_up_exps.weight", self.width, inner, count)
        self.block(layer, "ffn_down_exps.weight", inner, self.width, count)
        if shared:
            if shared_gate:
                self.block(layer, "ffn_gate_inp_shexp.weight", self.width)
            if gated:
                self.block(layer, "ffn_gate_shexp.weight", self.width, shared)
            self.block(layer, "ffn_up_shexp.weight", self.width, shared)
            self.block(layer, "ffn_down_shexp.weight", shared, self.width)

    def delta_net(self, layer: int) -> None:
        """The recurrent layer of qwen3next and qwen35 (src/models/qwen35.cpp)."""
        inner, state = self.get("ssm.inner_size"), self.get("ssm.state_size")
        groups, rank = self.get("ssm.group_count"), self.get("ssm.time_step_rank")
        mixed = 2 * state * groups + inner
        self.block(layer, "attn_qkv.weight", self.width, mixed)
        self.block(layer, "attn_gate.weight", self.width, inner)
        self.block(layer, "ssm_conv1d.weight", self.get("ssm.conv_kernel"), mixed)
        self.block(layer, "ssm_dt.bias", rank)
        self.block(layer, "ssm_a", rank)
        if self.architecture.beta_alpha_fused:
            self.block(layer, "ssm_ba.weight", self.width, 2 * rank)
        else:
            self.block(layer, "ssm_beta.weight", self.width, rank)
            self.block(layer, "ssm_alpha.weight", self.width, rank)
        self.block(layer, "ssm_norm.weight", state)
        self.block(layer, "ssm_out.weight", inner, self.width)

    def mamba2(self, layer: int) -> None:
        """The recurrent layer of granitehybrid and nemotron_h (src/models/mamba-base.cpp)."""
        inner, state = self.get("ssm.inner_size"), self.get("ssm.state_size")
        groups, rank = self.get("ssm.group_count"), self.get("ssm.time_step_rank")
        conv = inner + 2 * groups * state
        self.block(layer, "ssm_in.weight", self.width, inner + conv + rank)
        self.block(layer, "ssm_conv1d.weight", self.get("ssm.conv_kernel"), conv)
        self.block(layer, "ssm_conv1d.bias", conv)
        self.block(layer, "ssm_dt.bias", rank)
        self.block(layer, "ssm_a", 1, rank)
        self.block(layer, "ssm_d", 1, rank)
        self.block(layer, "ssm_norm.weight", inner // groups, groups)
        self.block(layer, "ssm_out.weight", inner, self.width)


def _plain(b: Builder) -> None:
    for layer in range(b.layers):
        b.block_norms(layer)
        b.attention(layer)
        if "expert_count" not in b.values or layer < b.get("leading_dense_block_count", 0):
            b.dense(layer, b.at("feed_forward_length", layer))
            continue
        b.experts(layer)
        if b.architecture.expert_bias:
            b.block(layer, "exp_probs_b.bias", b.get("expert_count"))


def _qwen_hybrid(b: Builder) -> None:
    trunk = b.layers - b.get("nextn_predict_layers", 0)
    for layer in range(b.layers):
        b.block_norms(layer)
        if (layer + 1) % b.get("full_attention_interval", 4) and layer < trunk:
            b.delta_net(layer)
        else:
            b.attention(layer)
        if "expert_count" in b.values:
            b.experts(layer)
        else:
            b.dense(layer, b.at("feed_forward_length", layer))
        if layer >= trunk:
            _nextn(b, layer)


def _nextn(b: Builder, layer: int) -> None:
    b.block(layer, "nextn.eh_proj.weight", 2 * b.width, b.width)
    b.norms(layer, "nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm")


def _gpt_oss(b: Builder) -> None:
    heads = b.get("attention.head_count")
    count, inner = b.get("expert_count"), b.get("expert_feed_forward_length")
    for layer in range(b.layers):
        b.block_norms(layer)
        b.attention(layer)
        b.block(layer, "attn_output.bias", b.width)
        b.block(layer, "attn_sinks.weight", heads)
        b.experts(layer)
        b.block(layer, "ffn_gate_inp.bias", count)
        for part, rows in (("gate", inner), ("up", inner), ("down", b.width)):
            b.block(layer, f"ffn_{part}_exps.bias", rows, count)


def _glm4moe(b: Builder) -> None:
    for layer in range(b.layers):
        b.block_norms(layer)
        b.attention(layer)
        if layer < b.get("leading_dense_block_count", 0):
            b.dense(layer, b.at("feed_forward_length", layer))
        else:
            b.block(layer, "exp_probs_b.bias", b.get("expert_count"))
            b.experts(layer)
        if layer >= b.layers - b.get("nextn_predict_layers", 0):
            _nextn(b, layer)
            b.block(layer, "nextn.embed_tokens.weight", b.width, b.get("vocab_size"))
            b.block(layer, "nextn.shared_head_head.weight", b.width, b.get("vocab_size"))


def _deepseek2(b: Builder) -> None:
    heads, rank = b.get("attention.head_count"), b.get("attention.kv_lora_rank")
    low, rope = b.get("attention.q_lora_rank"), b.get("rope.dimension_count")
    key, value = b.get("attention.key_length_mla"), b.get("attention.value_length_mla")
    for layer in range(b.layers):
        b.block_norms(layer)
        b.block(layer, "attn_q_a_norm.weight", low)
        b.block(layer, "attn_kv_a_norm.weight", rank)
        b.block(layer, "attn_q_a.weight", b.width, low)
        b.block(layer, "attn_q_b.weight", low, heads * key)
        b.block(layer, "attn_kv_a_mqa.weight", b.width, rank + rope)
        b.block(layer, "attn_k_b.weight", key - rope, rank, heads)
        b.block(layer, "attn_v_b.weight", rank, value, heads)
        b.block(layer, "attn_output.weight", heads * value, b.width)
        if layer < b.get("leading_dense_block_count", 0):
            b.dense(layer, b.at("feed_forward_length", layer))
        else:
            b.block(layer, "exp_probs_b.bias", b.get("expert_count"))
            b.experts(layer)


def _gemma4(b: Builder) -> None:
    b.add("rope_freqs.weight", b.get("attention.key_length") // 2)
    pattern = b.values["attention.sliding_window_pattern"]
    for layer in range(b.layers):
        b.block_norms(layer)
        b.attention(layer)
        if not pattern[layer]:  # full attention: V is K (attention_k_eq_v of the makers' config)
            b.tensors = [item for item in b.tensors if item[0] != f"blk.{layer}.attn_v.weight"]
        b.dense(layer, b.at("feed_forward_length", layer))
        b.block(layer, "layer_output_scale.weight", 1)
        if "expert_count" in b.values:
            count, inner = b.get("expert_count"), b.get("expert_feed_forward_length")
            b.norms(layer, "pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2")
            b.block(layer, "ffn_gate_inp.weight", b.width, count)
            b.block(layer, "ffn_gate_inp.scale", b.width)
            b.block(layer, "ffn_gate_up_exps.weight", b.width, 2 * inner, count)
            b.block(layer, "ffn_down_exps.weight", inner, b.width, count)


def _granite_hybrid(b: Builder) -> None:
    for layer in range(b.layers):
        b.block_norms(layer)
        if b.at("attention.head_count_kv", layer):
            b.attention(layer)
        else:
            b.mamba2(layer)
        b.experts(layer)


def _nemotron_h_moe(b: Builder) -> None:
    trunk = b.layers - b.get("nextn_predict_layers", 0)
    for layer in range(b.layers):
        b.block_norms(layer)
        if layer >= trunk:  # attention and experts in one block
            b.attention(layer)
            b.norms(layer, "post_attention_norm")
            b.block(layer, "exp_probs_b.bias", b.get("expert_count"))
            b.experts(layer)
            _nextn(b, layer)
        elif b.at("attention.head_count_kv", layer):
            b.attention(layer)
        elif b.at("feed_forward_length", layer):
            b.block(layer, "exp_probs_b.bias", b.get("expert_count"))
            b.experts(layer)
        else:
            b.mamba2(layer)


_BUILDERS: Mapping[TensorLayout, Callable[[Builder], None]] = {
    TensorLayout.PLAIN: _plain,
    TensorLayout.QWEN_HYBRID: _qwen_hybrid,
    TensorLayout.GPT_OSS: _gpt_oss,
    TensorLayout.GLM4_MOE: _glm4moe,
    TensorLayout.LATENT: _deepseek2,
    TensorLayout.GEMMA4: _gemma4,
    TensorLayout.GRANITE_HYBRID: _granite_hybrid,
    TensorLayout.NEMOTRON_H_MOE: _nemotron_h_moe,
}


def architectures() -> tuple[str, ...]:
    """Names of the architectures whose files the catalog can describe."""
    return tuple(name for name, architecture in ARCHITECTURES.items() if architecture.tensors is not None)


def parameters(arch: str, shape: Mapping[str, Any]) -> int:
    """The number of weights that the dimensions come to."""
    total = 0
    for _, extents in _layout(arch, shape):
        count = 1
        for extent in extents:
            count *= extent
        total += count
    return total


def synthesize(name: str, arch: str, shape: Mapping[str, Any], quant: str, size: int = 0) -> GgufHeader:
    """A header as the file would have it, close to the published size (bytes, 0 when unknown).

    Raises BadInput when the dimensions are not enough, or its files cannot be described.
    """
    layout = _layout(arch, shape)
    trained = ARCHITECTURES[arch].expert_type
    if trained and quant not in ("F16", "BF16"):
        quant = trained  # every published size keeps the experts as they were trained
    experts = shape.get("expert_count", 0)
    tied = bool(shape.get("tied", False))
    if quants.base_name(quant) not in quants.names():
        raise BadInput(
            f"the catalog cannot describe the quantisation {quant}", why=f"it knows {', '.join(quants.names())}"
        )
    layers = int(shape["block_count"])
    kinds = [quants.choose_type(quant, tensor, extents, layers, experts, tied) for tensor, extents in layout]
    if size:
        kinds = quants.adjust(layout, kinds, size - OVERHEAD)
    tensors, offset = [], 0
    for (tensor, extents), kind in zip(layout, kinds, strict=True):
        count = tensor_bytes(kind, extents)
        tensors.append(TensorInfo(tensor, extents, kind, offset, count))
        offset += -(-count // ALIGNMENT) * ALIGNMENT
    values: dict[str, HeaderValue] = {"general.architecture": arch, "general.name": name}
    for key, value in shape.items():
        if key not in ("tied", "vocab_size"):
            values[f"{arch}.{key}"] = tuple(value) if isinstance(value, list | tuple) else value
    values[f"{arch}.vocab_size"] = int(shape["vocab_size"])
    digest = hashlib.sha256(f"{arch}|{sorted(shape.items())}|{quant}|{size}".encode()).hexdigest()
    return GgufHeader(
        version=3,
        values=values,
        lengths={"tokenizer.ggml.tokens": int(shape["vocab_size"])},
        tensors=tuple(tensors),
        alignment=ALIGNMENT,
        data_offset=OVERHEAD,
        file_bytes=size or OVERHEAD + offset,
        digest=f"catalog-{digest[:32]}",
    )


def describe(name: str, model: Model, quant: str) -> GgufHeader:
    """The header of one size of a catalog model. Raises BadInput when the catalog gives no dimensions for it."""
    if not model.shape:
        raise BadInput(
            f"the catalog gives no dimensions for {name}",
            next=f"{command_line('models', 'pull', name)}   then plan again",
        )
    size = model.sizes().get(quant)
    header = synthesize(name, model.arch, model.shape, quant, size.bytes if size else 0)
    template = "the file brings its own; it takes enable_thinking"  # every shipped model's does, or never thinks
    return replace(header, values={**header.values, "tokenizer.chat_template": template})


def describe_drafter(drafter: Drafter) -> GgufHeader:
    """The header of a model's smaller sibling. Raises BadInput when its dimensions are not enough."""
    return synthesize(
        stem_of(drafter.file), drafter.arch, drafter.shape, quant_of(drafter.file) or "Q8_0", drafter.size
    )


def _layout(arch: str, shape: Mapping[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    architecture = ARCHITECTURES.get(arch)
    if architecture is None or architecture.tensors is None:
        raise BadInput(
            f"the catalog cannot describe the architecture {arch}", why=f"it knows {', '.join(architectures())}"
        )
    missing = [key for key in REQUIRED if key not in shape]
    if missing:
        raise BadInput(f"the shape lacks {', '.join(missing)}")
    builder = Builder(architecture, shape)
    builder.add("token_embd.weight", builder.width, builder.get("vocab_size"))
    _BUILDERS[architecture.tensors](builder)
    builder.add("output_norm.weight", builder.width)
    if not shape.get("tied", False):
        builder.add("output.weight", builder.width, builder.get("vocab_size"))
    return builder.tensors
