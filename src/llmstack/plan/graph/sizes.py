"""Sizes of the graph's tensors, in units whose bytes follow from the context and the micro-batch.

A program of allocations (plan.allocator) is made once for a placement; only the bytes of these units change with the
context's length, the slots, the micro-batch and the type of the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmstack.gguf import row_bytes
from llmstack.plan.allocator import Size
from llmstack.plan.assignment import KV_TYPES, Assignment
from llmstack.plan.facts import BlockKind

ROW = "F32 per token"
SEQUENCE = "F32 per sequence"
OTHER_SEQUENCES = "F32 per sequence but one"
BYTES = "bytes"
MASK = {BlockKind.FULL: "mask", BlockKind.WINDOW: "window mask"}
KEYS = {BlockKind.FULL: "K", BlockKind.WINDOW: "window K"}
VALUES = {BlockKind.FULL: "V", BlockKind.WINDOW: "window V"}
ALIGNMENT = 32  # bytes: ggml_backend_buft_get_alignment of the CPU's and the RPC backend's buffers


@dataclass(frozen=True, slots=True)
class ContextShape:
    """Cache cells per stream (of full attention, of the window), streams, tokens in a micro-batch, and sequences.

    A stream is a slot's own cache; with -kvu all slots share one (llama_cparams.kv_unified).
    """

    full: int
    window: int
    streams: int
    ubatch: int
    sequences: int


def row(amount: int) -> Size:
    """`amount` F32 values for each token."""
    return ((ROW, amount),)


def per_sequence(amount: int) -> Size:
    """`amount` F32 values for each sequence."""
    return ((SEQUENCE, amount),)


def is_mask(size: Size) -> bool:
    """Whether a tensor is an attention mask."""
    return size[0][0] in MASK.values()


def table_bytes(table: Sequence[Size], a: Assignment, shape: ContextShape) -> list[int]:
    """Bytes of each size, aligned as ggml_dyn_tallocr_alloc does."""
    units = {
        ROW: 4 * shape.ubatch,
        SEQUENCE: 4 * shape.sequences,
        OTHER_SEQUENCES: 4 * (shape.sequences - 1),
        BYTES: 1,
        # F16, one row of cells for each token (build_attn_inp_kq_mask)
        MASK[BlockKind.FULL]: 2 * shape.ubatch * shape.full,
        MASK[BlockKind.WINDOW]: 2 * shape.ubatch * shape.window,
    }
    sizes = []
    for size in table:
        total = 0
        for unit, amount in size:
            total += amount * units[unit] if unit in units else _cache_bytes(unit, amount, a, shape)
        sizes.append(-(-total // ALIGNMENT) * ALIGNMENT)
    return sizes


def _cache_bytes(unit: str, width: int, a: Assignment, shape: ContextShape) -> int:
    """A block's whole K or V, `width` values a cell, which -nkvo copies from RAM."""
    kind = KV_TYPES[a.type_k if unit in KEYS.values() else a.type_v]
    cells = shape.window if unit in (KEYS[BlockKind.WINDOW], VALUES[BlockKind.WINDOW]) else shape.full
    return row_bytes(kind, -(-width // 32) * 32) * cells * shape.streams
