"""Small but valid GGUF files for pulls: a real header, and random data so that a wrong byte shows."""

from __future__ import annotations

import random

from llmstack.gguf import GgmlType
from llmstack.gguf.writer import I32, U16, Tensor, header

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def model_bytes(size: int, seed: int = 0, *, shard: tuple[int, int] | None = None) -> bytes:
    """About `size` bytes; shard: (number from 0, count) of a split file."""
    values = {"general.architecture": "qwen3", "general.name": "tiny", "tokenizer.chat_template": TEMPLATE}
    if shard:
        values |= {
            "split.no": U16(shard[0]),
            "split.count": U16(shard[1]),
            "split.tensors.count": I32(shard[1]),
        }
    rows = max(size // 4 // 64, 1)
    tensor = Tensor(f"t{shard[0] if shard else 0}.weight", (64, rows), GgmlType.F32)
    data, total = header(values, [tensor])
    return data + random.Random(seed).randbytes(total - len(data))
