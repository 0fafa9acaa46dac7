"""Files that only guess ahead, in the shapes of real ones; and large models in such shapes that have a tokenizer.

A companion's tensors are those of its `load_arch_tensors` (src/models/eagle3.cpp, dflash.cpp, gemma4-assistant.cpp).
"""

from __future__ import annotations

from dataclasses import replace

from llmstack.gguf import GgmlType
from llmstack.gguf.writer import F32, I32, U32, Value
from support.models import tokenizer_keys
from support.planner.shapes import Shape, _Build, _heads

D, HEADS, KV, HEAD, FF = 2048, 16, 4, 128, 8192  # of the large models and of their companions


def mtp_head(of: Shape) -> Shape:
    """The prediction block of a model in a file of its own: embeddings and output are there once more."""
    last = f"blk.{of.metadata[f'{of.arch}.block_count'].value - 1}."  # type: ignore[union-attr]
    own = tuple(tensor for tensor in of.tensors if not tensor.name.startswith("blk.") or tensor.name.startswith(last))
    return Shape(f"mtp-{of.name}", of.metadata, own)


def with_tokenizer(shape: Shape) -> Shape:
    """The same with a real vocabulary, so that a server can start."""
    rest = {key: value for key, value in shape.metadata.items() if not key.startswith("tokenizer.")}
    return replace(shape, metadata={**rest, **tokenizer_keys()})


def dense_target(layers: int = 8) -> Shape:
    b = _Build("target", "qwen3", D, layers, _vocabulary(), n_ctx=65536, q=GgmlType.Q8_0)
    _heads(b, HEADS, KV, HEAD)
    b.set(feed_forward_length=FF, rope__freq_base=F32(1e6))
    for i in range(layers):
        b.norms(i, "attn_norm", "ffn_norm")
        b.attention(i, HEADS, KV, HEAD, norms=True)
        b.dense(i, FF)
    return with_tokenizer(b.done())


def gemma_target(layers: int = 6) -> Shape:
    b = _Build("gemma", "gemma4", D, layers, _vocabulary(), n_ctx=65536, q=GgmlType.Q8_0, tied=True)
    _gemma_heads(b, layers)
    b.set(feed_forward_length=FF, embedding_length_per_layer_input=0)
    for i in range(layers):
        b.norms(i, "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
        b.attention(i, HEADS, KV, HEAD, norms=True)
        b.blk(i, "layer_output_scale.weight", 1)
        b.dense(i, FF)
    b.w("rope_freqs.weight", HEAD // 2)
    return with_tokenizer(b.done())


def gemma_head(layers: int = 4, width: int = 512) -> Shape:
    """Attends to the large model's cache: it has no keys and values of its own."""
    b = _Build("mtp-gemma", "gemma4-assistant", width, layers, _vocabulary(), q=GgmlType.Q8_0, tied=True)
    _gemma_heads(b, layers)
    b.set(feed_forward_length=1024, nextn_predict_layers=layers, embedding_length_out=D)
    b.w("nextn.pre_projection.weight", 2 * D, width)
    b.w("nextn.post_projection.weight", width, D)
    for i in range(layers):
        b.norms(i, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        b.blk(i, "attn_q.weight", width, HEADS * HEAD)
        b.blk(i, "attn_q_norm.weight", HEAD)
        b.blk(i, "attn_output.weight", HEADS * HEAD, width)
        b.blk(i, "layer_output_scale.weight", 1)
        b.dense(i, 1024)
    b.w("rope_freqs.weight", HEAD // 2)
    return with_tokenizer(b.done())


def eagle3(reads: tuple[int, int, int] = (2, 4, 6), *, target: int = D) -> Shape:
    """One block over the token and three blocks of the large model; the large model's embeddings and output."""
    b = _Build("eagle3", "eagle3", D, 1, _vocabulary(), q=GgmlType.Q8_0, tied=True)
    _heads(b, HEADS, KV, HEAD)
    b.set(feed_forward_length=FF, target_layers=I32(list(reads)), target_hidden_size=target, rope__freq_base=F32(1e6))
    b.w("fc.weight", 3 * target, D)
    b.norms(0, "attn_norm", "attn_norm_2", "ffn_norm")
    b.blk(0, "attn_q.weight", 2 * D, HEADS * HEAD)
    b.blk(0, "attn_k.weight", 2 * D, KV * HEAD)
    b.blk(0, "attn_v.weight", 2 * D, KV * HEAD)
    b.blk(0, "attn_output.weight", HEADS * HEAD, D)
    b.dense(0, FF)
    return with_tokenizer(_without(b.done(), "token_embd.weight"))


def dflash(reads: tuple[int, ...] = (1, 3, 5, 7), *, layers: int = 3, block: int = 8) -> Shape:
    """A few blocks that guess a whole row of tokens in one pass."""
    b = _Build("dflash", "dflash", D, layers, _vocabulary(), q=GgmlType.Q8_0, tied=True)
    _heads(b, HEADS, KV, HEAD)
    b.set(feed_forward_length=FF, target_layers=I32(list(reads)), block_size=block, rope__freq_base=F32(1e6))
    b.w("fc.weight", len(reads) * D, D)
    b.w("enc.output_norm.weight", D)
    for i in range(layers):
        b.norms(i, "attn_norm", "ffn_norm")
        b.attention(i, HEADS, KV, HEAD, norms=True)
        b.dense(i, FF)
    shape = with_tokenizer(_without(b.done(), "token_embd.weight"))
    return replace(shape, metadata={**shape.metadata, "tokenizer.ggml.mask_token_id": U32(3)})


def _without(shape: Shape, name: str) -> Shape:
    return replace(shape, tensors=tuple(tensor for tensor in shape.tensors if tensor.name != name))


def _gemma_heads(b: _Build, layers: int) -> None:
    _heads(b, HEADS, KV, HEAD)
    b.set(attention__key_length_swa=HEAD, attention__value_length_swa=HEAD, rope__dimension_count_swa=HEAD)
    flags: Value = [(i + 1) % 2 != 0 for i in range(layers)]
    b.set(attention__sliding_window=512, attention__sliding_window_pattern=flags)


def _vocabulary() -> int:
    size = tokenizer_keys()["tokenizer.ggml.tokens"]
    assert isinstance(size, list)
    return len(size)
