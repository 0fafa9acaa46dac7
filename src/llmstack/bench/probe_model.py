"""Models of any shape with made-up weights, for measuring: real tensors in real types, whose words mean nothing.

Speed hardly depends on the values of weights, but on their types and shapes, so one block of random bytes is
repeated; the embedding's rows still differ, so that a router sends tokens to different experts. Queries and keys are
normed: scores without bounds would leave denormal numbers behind the softmax, which a processor multiplies slowly.
The tokenizer knows single bytes only: each character of a prompt is one token.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llmstack.gguf import GgmlType
from llmstack.gguf.writer import F32, U32, Tensor, Value, header

_CHUNK_BLOCKS = 4099  # a prime: a repeated chunk never lines up with the rows of a matrix


@dataclass(frozen=True, slots=True)
class ProbeShape:
    """Tokens, values and heads as llama.cpp counts them. experts 0: dense. n_ff is one expert's width in a MoE."""

    name: str
    layers: int
    d: int
    heads: int
    kv_heads: int
    n_ff: int
    vocab: int = 8192
    head_dim: int = 64
    experts: int = 0
    experts_used: int = 0
    weights: GgmlType = GgmlType.Q4_K
    n_ctx: int = 32768


def write_probe(shape: ProbeShape, path: Path) -> Path:
    """Writes the file, whole or not at all; one that is there already is kept. Raises OSError for a full disk."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    tensors = list(_tensors(shape))
    with partial.open("wb") as stream:
        data, size = header(_metadata(shape), tensors)
        stream.write(data)
        chunks: dict[GgmlType, bytes] = {}
        for tensor in tensors:
            write_made_up(stream, tensor, chunks)
        stream.truncate(size)
    partial.replace(path)
    return path


def bytes_vocabulary(size: int) -> dict[str, Value]:
    """A tokenizer of so many tokens that knows single bytes; the rest are there for the size of the matrices."""
    unused = size - 259
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(f"u{n}" for n in range(unused))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": F32([0.0] * size),
        "tokenizer.ggml.token_type": [2, 3, 3, *([6] * 256), *([5] * unused)],  # enum llama_token_type
        "tokenizer.ggml.bos_token_id": U32(1),
        "tokenizer.ggml.eos_token_id": U32(2),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ",
    }


def _metadata(shape: ProbeShape) -> Mapping[str, Value]:
    arch = "qwen3moe" if shape.experts else "qwen3"
    moe: dict[str, Value] = {}
    if shape.experts:
        moe = {
            f"{arch}.expert_count": U32(shape.experts),
            f"{arch}.expert_used_count": U32(shape.experts_used),
            f"{arch}.expert_feed_forward_length": U32(shape.n_ff),
        }
    return {
        "general.architecture": arch,
        "general.name": shape.name,
        "general.quantization_version": U32(2),
        f"{arch}.block_count": U32(shape.layers),
        f"{arch}.context_length": U32(shape.n_ctx),
        f"{arch}.embedding_length": U32(shape.d),
        f"{arch}.feed_forward_length": U32(shape.n_ff),
        f"{arch}.attention.head_count": U32(shape.heads),
        f"{arch}.attention.head_count_kv": U32(shape.kv_heads),
        f"{arch}.attention.key_length": U32(shape.head_dim),
        f"{arch}.attention.value_length": U32(shape.head_dim),
        f"{arch}.attention.layer_norm_rms_epsilon": F32(1e-6),
        f"{arch}.rope.dimension_count": U32(shape.head_dim),
        f"{arch}.vocab_size": U32(shape.vocab),
        **moe,
        **bytes_vocabulary(shape.vocab),
    }


def _tensors(shape: ProbeShape) -> Iterator[Tensor]:
    d, q, f = shape.d, shape.weights, GgmlType.F32
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield Tensor("token_embd.weight", (d, shape.vocab), q)
    for il in range(shape.layers):
        yield Tensor(f"blk.{il}.attn_norm.weight", (d,), f)
        yield Tensor(f"blk.{il}.attn_q.weight", (d, wide), q)
        yield Tensor(f"blk.{il}.attn_k.weight", (d, narrow), q)
        yield Tensor(f"blk.{il}.attn_v.weight", (d, narrow), q)
        yield Tensor(f"blk.{il}.attn_output.weight", (wide, d), q)
        yield Tensor(f"blk.{il}.attn_q_norm.weight", (shape.head_dim,), f)
        yield Tensor(f"blk.{il}.attn_k_norm.weight", (shape.head_dim,), f)
        yield Tensor(f"blk.{il}.ffn_norm.weight", (d,), f)
        if not shape.experts:
            yield Tensor(f"blk.{il}.ffn_gate.weight", (d, shape.n_ff), q)
            yield Tensor(f"blk.{il}.ffn_up.weight", (d, shape.n_ff), q)
            yield Tensor(f"blk.{il}.ffn_down.weight", (shape.n_ff, d), q)
            continue
        yield Tensor(f"blk.{il}.ffn_gate_inp.weight", (d, shape.experts), f)
        yield Tensor(f"blk.{il}.ffn_gate_exps.weight", (d, shape.n_ff, shape.experts), q)
        yield Tensor(f"blk.{il}.ffn_up_exps.weight", (d, shape.n_ff, shape.experts), q)
        yield Tensor(f"blk.{il}.ffn_down_exps.weight", (shape.n_ff, d, shape.experts), q)
    yield Tensor("output_norm.weight", (d,), f)
    yield Tensor("output.weight", (d, shape.vocab), q)


def write_made_up(stream: BinaryIO, tensor: Tensor, chunks: dict[GgmlType, bytes]) -> None:
    """One tensor's bytes and the padding behind them. chunks: what was made of each type so far."""
    size = tensor.size
    if len(tensor.shape) == 1:
        stream.write(struct.pack("<f", -0.05 if tensor.name.endswith("ssm_a") else 1.0) * tensor.shape[0])  # a decay
    else:
        if tensor.type not in chunks:
            chunks[tensor.type] = _chunk(tensor.type)
        chunk = chunks[tensor.type]
        for start in range(0, size, len(chunk)):
            stream.write(chunk[: size - start])
    stream.write(bytes(-size % 32))


def _chunk(kind: GgmlType) -> bytes:
    """Random quants under small, finite scales (block structs of ggml/src/ggml-common.h)."""
    rng = random.Random(kind)
    scale = struct.pack("<e", 0.001)
    if kind is GgmlType.F32:
        return b"".join(struct.pack("<f", rng.uniform(-0.02, 0.02)) for _ in range(_CHUNK_BLOCKS))
    if kind is GgmlType.F16:
        return b"".join(struct.pack("<e", rng.uniform(-0.02, 0.02)) for _ in range(_CHUNK_BLOCKS))
    if kind is GgmlType.Q8_0:
        return b"".join(scale + rng.randbytes(32) for _ in range(_CHUNK_BLOCKS))
    if kind is GgmlType.Q4_0:
        return b"".join(scale + rng.randbytes(16) for _ in range(_CHUNK_BLOCKS))
    if kind is GgmlType.Q4_K:  # d, dmin, 12 bytes of scales and minima, 128 of quants
        return b"".join(scale + scale + rng.randbytes(140) for _ in range(_CHUNK_BLOCKS))
    if kind is GgmlType.Q6_K:  # 192 bytes of quants, 16 of scales, d
        return b"".join(rng.randbytes(192) + bytes([2] * 16) + scale for _ in range(_CHUNK_BLOCKS))
    if kind is GgmlType.IQ3_S:  # d, then quants, their high bits, signs and scales
        return b"".join(scale + rng.randbytes(108) for _ in range(_CHUNK_BLOCKS))
    if kind is GgmlType.MXFP4:  # a power of two (2^-7 here), 16 bytes of quants
        return b"".join(bytes([120]) + rng.randbytes(16) for _ in range(_CHUNK_BLOCKS))
    raise ValueError(f"no made-up weights of type {kind.name}")
