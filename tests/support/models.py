"""Small models of three kinds that really run: made-up weights, the demo's tokenizer and template.

dense: any prefix of a state can be reused. hybrid (qwen35): recurrent blocks between attention, whose state cannot be
rolled back. window (gemma3): sliding-window attention. Their words mean nothing, but the same prompt gives the same.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from llmstack.demo.model import CONTROL, MARKS, VOCABULARY, WORDS, _metadata
from llmstack.demo.tokenizer import train
from llmstack.gguf import GgmlType
from llmstack.gguf.writer import F32, I32, U32, Tensor, Value, header

KINDS = ("dense", "hybrid", "window")
D, FF, HEADS, KV, HEAD = 128, 128, 4, 2, 64
BLOCKS = 8
F, H = GgmlType.F32, GgmlType.F16
SYLLABLES = ("co", "de", "fi", "le", "ma", "no", "per", "qua", "re", "so", "tra", "un", "ver", "wi", "ex", "ty")


def write_model(
    kind: str, path: Path, changes: Mapping[str, Value | None] | None = None, *, blocks: int = BLOCKS
) -> Path:
    """changes: keys that are otherwise, or absent (None). blocks: more make a model that computes for a while."""
    own = {key: U32(blocks) for key in _keys(kind) if key.endswith(".block_count")}
    keys = {key: value for key, value in (_keys(kind) | own | dict(changes or {})).items() if value is not None}
    vocabulary = len(keys["tokenizer.ggml.tokens"])  # type: ignore[arg-type]
    tensors = [Tensor("token_embd.weight", (D, vocabulary), H)]
    for block in range(blocks):
        tensors += [Tensor(f"blk.{block}.{name}", shape, F if len(shape) == 1 or "conv1d" in name else H)
                    for name, shape in _block(kind, block).items()]  # fmt: skip
    tensors += [Tensor("output_norm.weight", (D,), F), Tensor("output.weight", (D, vocabulary), H)]
    data, size = header(keys, tensors)
    rng = random.Random(kind)
    chunks = {F: _values(rng, "f", 8191), H: _values(rng, "e", 8191)}
    silent = [n for n, token in enumerate(keys["tokenizer.ggml.tokens"]) if token in CONTROL]  # type: ignore[arg-type]
    with path.open("wb") as stream:
        stream.write(data)
        for tensor in tensors:
            written = bytearray(_fill(tensor, chunks[tensor.type]))
            if tensor.name == "output.weight":  # no row, no logit above the others': it never ends its turn at once
                for token in silent:
                    written[token * 2 * D : (token + 1) * 2 * D] = bytes(2 * D)
            stream.write(written)
            stream.write(bytes(-tensor.size % 32))
        stream.truncate(size)
    return path


def _fill(tensor: Tensor, chunk: bytes) -> bytes:
    if tensor.name.endswith("norm.weight"):
        return struct.pack("<f", 1.0) * (tensor.size // 4)
    if tensor.name.endswith("ssm_a"):  # a decay: negative
        return struct.pack("<f", -0.05) * (tensor.size // 4)
    return (chunk * (tensor.size // len(chunk) + 1))[: tensor.size]


def _values(rng: random.Random, code: str, count: int) -> bytes:
    return struct.pack(f"<{count}{code}", *(rng.gauss(0, 0.12) for _ in range(count)))


def _block(kind: str, block: int) -> dict[str, tuple[int, ...]]:
    ffn = {"ffn_gate.weight": (D, FF), "ffn_up.weight": (D, FF), "ffn_down.weight": (FF, D)}
    attention = {
        "attn_k.weight": (D, KV * HEAD),
        "attn_v.weight": (D, KV * HEAD),
        "attn_output.weight": (HEADS * HEAD, D),
    }
    norms = {"attn_q_norm.weight": (HEAD,), "attn_k_norm.weight": (HEAD,)}
    query = {"attn_q.weight": (D, HEADS * HEAD)}
    if kind == "dense":
        return {"attn_norm.weight": (D,), "ffn_norm.weight": (D,), **query, **attention, **norms, **ffn}
    if kind == "window":
        post = {"post_attention_norm.weight": (D,), "post_ffw_norm.weight": (D,)}
        return {"attn_norm.weight": (D,), "ffn_norm.weight": (D,), **post, **query, **attention, **norms, **ffn}
    both = {"attn_norm.weight": (D,), "post_attention_norm.weight": (D,)}
    if (block + 1) % 4 == 0:
        return {**both, "attn_q.weight": (D, 2 * HEADS * HEAD), **attention, **norms, **ffn}
    state, group, rank = 32, 2, 4
    inner = rank * state
    return {
        **both,
        "attn_qkv.weight": (D, 2 * state * group + inner),
        "attn_gate.weight": (D, inner),
        "ssm_conv1d.weight": (4, 2 * state * group + inner),
        "ssm_dt.bias": (rank,),
        "ssm_a": (rank,),
        "ssm_beta.weight": (D, rank),
        "ssm_alpha.weight": (D, rank),
        "ssm_norm.weight": (state,),
        "ssm_out.weight": (inner, D),
        **ffn,
    }


def _text() -> str:
    """What the tokenizer learns from: always the same, since other tokens make another model, whose words may be so
    nearly equal that rounding decides between them."""
    rng = random.Random("text")
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(600)]
    return " ".join(rng.choices(words, k=8000))


@cache
def tokenizer_keys() -> dict[str, Value]:
    """The demo's template with a vocabulary of made-up words."""
    tokenizer = train(
        _text(), merges=VOCABULARY - 256 - len(CONTROL) - len(MARKS), whole_words=WORDS, control=CONTROL,
        marks=MARKS,
    )  # fmt: skip
    return {key: value for key, value in _metadata(tokenizer).items() if key.startswith("tokenizer.")}


def _keys(kind: str) -> dict[str, Value]:
    arch = {"dense": "qwen3", "hybrid": "qwen35", "window": "gemma3"}[kind]
    theirs = tokenizer_keys()
    own: dict[str, Any] = {
        "block_count": U32(BLOCKS),
        "context_length": U32(32768),
        "embedding_length": U32(D),
        "feed_forward_length": U32(FF),
        "attention.head_count": U32(HEADS),
        "attention.head_count_kv": U32(KV),
        "attention.key_length": U32(HEAD),
        "attention.value_length": U32(HEAD),
        "attention.layer_norm_rms_epsilon": F32(1e-6),
        "rope.dimension_count": U32(HEAD),
        "rope.freq_base": F32(1e6),
        "vocab_size": U32(len(theirs["tokenizer.ggml.tokens"])),  # type: ignore[arg-type]
    }
    if kind == "window":
        own["attention.sliding_window"] = U32(512)
    if kind == "hybrid":
        own |= {
            "rope.dimension_sections": I32([11, 11, 10, 0]),
            "full_attention_interval": U32(4),
            "ssm.conv_kernel": U32(4),
            "ssm.inner_size": U32(128),
            "ssm.state_size": U32(32),
            "ssm.group_count": U32(2),
            "ssm.time_step_rank": U32(4),
        }
    return {
        "general.architecture": arch,
        "general.name": f"made-up {kind}",
        **{f"{arch}.{key}": value for key, value in own.items()},
        **theirs,
    }
