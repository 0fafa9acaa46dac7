"""The demo model: a real transformer in a real GGUF whose weights were written down, not trained.

Every part an engine exercises is there (attention, KV cache, grammar-constrained tool calls), but the residual
stream is left almost as the embedding made it, and the output matrix holds one chain: each word of SENTENCE is the
likeliest successor of the word before it. So the model answers anything with that sentence, then stops. Where a tool
call is forced, the grammar forbids the stop and the second successor of the last word, CALL, follows; inside
the call a small bias towards closing quotes and braces keeps the arguments short.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise

from llmstack.demo.template import CHAT_TEMPLATE
from llmstack.demo.tokenizer import Tokenizer, train
from llmstack.gguf import GgmlType
from llmstack.gguf.writer import F32, U32, Tensor, Value, write

WORDS = (
    "The", " demo", " model", " answers", ":", " these", " words", " mean", " nothing", ",", " but", " your", " stack",
    " works", ".", " Then", " say", " up", " MODEL", " for", " a", " real", " one", "!",
)  # fmt: skip
SENTENCE = "".join(WORDS)

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CALL = '<tool_call>\n{"name": "'
CALL_END = "\n</tool_call>"
MARKS = (CALL, CALL_END)
VOCABULARY = 4096
N_LAYER, N_EMBD, N_HEAD, N_HEAD_KV, HEAD_DIM, N_FF = 2, 128, 1, 1, 32, 256
N_CTX_TRAIN = 131072
SEED = 20261120

# Each token after the tokens that lead to it. A weight of 0.3 is a logit of 0.3 * 128 = 38, against about
# 3 * 0.3 * sqrt(128) = 10 by chance; "\n" ends the generation prompt.
SUCCESSORS = (
    *((word, before, 0.3) for before, word in pairwise(("\n", *WORDS, "<|im_end|>"))),
    (CALL, WORDS[-1], 0.2),
    ("<|im_end|>", CALL_END, 0.3),
)
# Logits of the tokens that bring a call's JSON to its end, below the chain, above all others;
# the gap after the quote keeps a string from running on.
BIAS = {'"': 22.0, ":": 11.0, "}": 10.0, "]": 10.0, CALL_END: 9.0, "<|im_end|>": 7.0}
LAYER_SCALE = 1 / 512  # what the layers add stays below 1 % of the embedding
_NOISE = 1 / 64


def build_model(text: str) -> Iterator[bytes]:
    """The GGUF file, piece by piece (under 20 MB); `text` trains the tokenizer. Same text, same bytes."""
    tokenizer = train(
        text, merges=VOCABULARY - 256 - len(CONTROL) - len(MARKS), whole_words=WORDS, control=CONTROL, marks=MARKS
    )
    return write(_metadata(tokenizer), _tensors(tokenizer))


def _metadata(tokenizer: Tokenizer) -> dict[str, Value]:
    n_vocab = len(tokenizer.tokens)
    normal, control, user_defined = 1, 3, 4  # llama.cpp: enum llama_token_type
    special = dict.fromkeys(tokenizer.control, control) | dict.fromkeys(tokenizer.marks, user_defined)
    kinds = [special.get(token, normal) for token in tokenizer.tokens]
    return {
        "general.architecture": "llama",
        "general.name": "llmstack demo",
        "general.description": "Says one sentence. Made on this machine to try the stack; not a language model.",
        "llama.block_count": U32(N_LAYER),
        "llama.context_length": U32(N_CTX_TRAIN),
        "llama.embedding_length": U32(N_EMBD),
        "llama.feed_forward_length": U32(N_FF),
        "llama.attention.head_count": U32(N_HEAD),
        "llama.attention.head_count_kv": U32(N_HEAD_KV),
        "llama.attention.key_length": U32(HEAD_DIM),
        "llama.attention.value_length": U32(HEAD_DIM),
        "llama.attention.layer_norm_rms_epsilon": F32(1e-6),
        "llama.rope.dimension_count": U32(HEAD_DIM),
        "llama.rope.freq_base": F32(1e6),
        "llama.vocab_size": U32(n_vocab),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": list(tokenizer.tokens),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": list(tokenizer.merges),
        "tokenizer.ggml.bos_token_id": U32(tokenizer.id_of("<|endoftext|>")),
        "tokenizer.ggml.eos_token_id": U32(tokenizer.id_of("<|im_end|>")),
        "tokenizer.ggml.padding_token_id": U32(tokenizer.id_of("<|endoftext|>")),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _tensors(tokenizer: Tokenizer) -> Iterator[Tensor]:
    n_vocab = len(tokenizer.tokens)
    rng = random.Random(SEED)
    embedding = [_signs(rng, N_EMBD) for _ in range(n_vocab)]
    yield _f16("token_embd.weight", (N_EMBD, n_vocab), (_row(signs) for signs in embedding))
    kv = N_HEAD_KV * HEAD_DIM
    for layer in range(N_LAYER):
        for name, n_in, n_out, scale in (
            ("attn_q", N_EMBD, N_HEAD * HEAD_DIM, _NOISE),
            ("attn_k", N_EMBD, kv, _NOISE),
            ("attn_v", N_EMBD, kv, _NOISE),
            ("attn_output", N_HEAD * HEAD_DIM, N_EMBD, LAYER_SCALE),
            ("ffn_gate", N_EMBD, N_FF, _NOISE),
            ("ffn_up", N_EMBD, N_FF, _NOISE),
            ("ffn_down", N_FF, N_EMBD, LAYER_SCALE),
        ):
            rows = (_row(_signs(rng, n_in), scale) for _ in range(n_out))
            yield _f16(f"blk.{layer}.{name}.weight", (n_in, n_out), rows)
        yield _ones(f"blk.{layer}.attn_norm.weight")
        yield _ones(f"blk.{layer}.ffn_norm.weight")
    yield _ones("output_norm.weight")
    yield _f16("output.weight", (N_EMBD, n_vocab), _output_rows(tokenizer, embedding, rng))


def _output_rows(tokenizer: Tokenizer, embedding: list[bytes], rng: random.Random) -> Iterator[bytes]:
    leading: dict[int, list[tuple[bytes, float]]] = {}
    for word, before, weight in SUCCESSORS:
        leading.setdefault(tokenizer.id_of(word), []).append((embedding[tokenizer.id_of(before)], weight))
    for token, text in enumerate(tokenizer.tokens):
        terms = leading.get(token, [(_signs(rng, N_EMBD), _NOISE)])
        yield _sum_row(terms, first=BIAS.get(text, 0.0))


def _signs(rng: random.Random, count: int) -> bytes:
    """count bits as bytes; the first dimension is always positive: it carries a constant, which serves as a bias."""
    signs = bytearray(rng.randbytes(count // 8))
    signs[0] |= 1
    return bytes(signs)


def _row(signs: bytes, scale: float = 1.0) -> bytes:
    """One matrix row of ±scale in f16."""
    table = _table(scale)
    return b"".join(table[byte] for byte in signs)


def _sum_row(terms: list[tuple[bytes, float]], first: float) -> bytes:
    """The sum of weighted sign vectors in f16; the first dimension, a constant in every embedding, gives a bias."""
    values = [first] + [0.0] * (N_EMBD - 1)
    for signs, weight in terms:
        for index in range(1, N_EMBD):
            values[index] += weight if signs[index // 8] >> index % 8 & 1 else -weight
    return struct.pack(f"<{N_EMBD}e", *values)


_tables: dict[float, tuple[bytes, ...]] = {}


def _table(scale: float) -> tuple[bytes, ...]:
    if scale not in _tables:
        _tables[scale] = tuple(
            struct.pack("<8e", *(scale if byte >> bit & 1 else -scale for bit in range(8))) for byte in range(256)
        )
    return _tables[scale]


def _f16(name: str, shape: tuple[int, ...], rows: Iterable[bytes]) -> Tensor:
    return Tensor(name, shape, GgmlType.F16, b"".join(rows))


def _ones(name: str) -> Tensor:
    return Tensor(name, (N_EMBD,), GgmlType.F32, struct.pack(f"<{N_EMBD}f", *([1.0] * N_EMBD)))
