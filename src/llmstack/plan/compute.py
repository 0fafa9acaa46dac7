"""Compute buffers: the peak of the live tensors while one ubatch passes through a backend's part of the graph.

llama.cpp reserves them with ggml_gallocr for its largest graph (graph_reserve, src/llama-context.cpp). On a GPU the
blocks' tensors are replayed (plan.graph, plan.allocator). What runs on the host is described by rows: F32 values per
token that are alive at once, of build_ffn, build_moe_ffn (src/llama-graph.cpp), delta-net-base.cpp and
mamba-base.cpp, with the holes that the allocator's best fit leaves. Both were checked against llama-server's own
report (tests/support/planner, docs/planner.md).

d = n_embd, k = experts used.

| part on the host   | rows                                                                          |
| ------------------ | ----------------------------------------------------------------------------- |
| gated feed-forward | 3 ff + 5 d: up, gate, their product; residual, norm, input, output, embedding |
| experts            | 3 k ffe + 5 d, and k d more when the result fits no hole (k d > 2 k ffe)      |
| experts alone      | 3 d less                                                                      |
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from llmstack.gguf import row_bytes
from llmstack.plan import graph
from llmstack.plan.allocator import Program, Size
from llmstack.plan.assignment import KV_TYPES, Assignment
from llmstack.plan.facts import DELTA_NET, MAMBA, UNGATED, Block, Facts, Kind
from llmstack.plan.tensors import is_quantised

MIB = 1 << 20
# Peaks per token of placements of one kind differ by less than these factors (tests/unit/plan/test_compute.py): by
# which blocks have experts in RAM, by the micro-batch, by whether a quantised cache rotates K and V; with -nkvo by
# the first only. Mamba's states leave more holes.
SPREAD, MAMBA_SPREAD = {False: 1.2, True: 1.45}, {False: 1.35, True: 1.9}


@dataclass(frozen=True, slots=True)
class Layout:
    """Blocks [low, high) of one device; has_output: the output layer too; start: the first GPU block."""

    low: int
    high: int
    has_output: bool
    start: int
    number: int
    devices: int


@dataclass(frozen=True, slots=True)
class Shape:
    """Cells per stream, streams, tokens in a ubatch, and sequences."""

    full: int
    window: int
    streams: int
    ubatch: int
    sequences: int


class Compute:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        # with one kind of attention everywhere, the host's mask is free again after the first copy to the GPU
        self._uniform = {b.kind for b in facts.blocks} == {Kind.FULL}
        self._seen: dict[tuple[int, int], tuple[bool, bool]] = {}
        rows = [_rows(facts, block) for block in facts.blocks]
        self._host_rows = [host for host, _ in rows]
        self._expert_rows = [experts for _, experts in rows]
        self._places: dict[tuple[object, ...], Program] = {}
        self._programs: dict[tuple[object, ...], Program] = {}
        self._peaks: dict[tuple[object, ...], int] = {}
        self._near: dict[tuple[object, ...], float] = {}
        self._spread = MAMBA_SPREAD if facts.arch in MAMBA else SPREAD
        self._sorts = [hash(_signature(block)) for block in facts.blocks]
        # llama_kv_cache: K and V are rotated before they are quantised when heads are a multiple of 64
        turns = not (facts.mla or any(b.head_dim % 64 for b in facts.blocks if b.k_width))
        self._turned = {name: turns and is_quantised(kind) for name, kind in KV_TYPES.items()}
        self._state = 4 * facts.state_s if facts.recurrent and facts.arch not in DELTA_NET else 0

    def masks(self, shape: Shape, low: int = 0, high: int = 1 << 20) -> int:
        """F16 masks of the blocks [low, high), one per kind of cache (llm_graph_input_attn_kv).

        Each is [cells, tokens of a stream, 1, streams].
        """
        has_full, has_window = self._kinds(low, high)
        return 2 * shape.ubatch * (shape.full * has_full + shape.window * has_window)

    def _kinds(self, low: int, high: int) -> tuple[bool, bool]:
        found = self._seen.get((low, high))
        if found is None:
            kinds = {block.kind for block in self.facts.blocks[low:high]}
            found = self._seen[low, high] = (Kind.FULL in kinds, Kind.WINDOW in kinds)
        return found

    def device(self, a: Assignment, shape: Shape, layout: Layout, *, staged: bool, room: float | None = None) -> int:
        """Bytes on one device. staged: the backend copies weights from RAM for large batches (op-offload).

        room: bytes that are left, when it matters only whether the result exceeds them.
        """
        if layout.low >= layout.high and not layout.has_output:
            return 0
        # a batch large enough for op-offload computes what is in RAM on the device, with one matrix copied at a time
        offloads = staged and max(a.ncmoe, a.ncffn) > layout.low
        masks = self.masks(shape, layout.low, layout.high)
        total = 0
        if offloads and any(b.experts for b in self.facts.blocks[layout.low : min(layout.high, a.ncmoe)]):
            total += self._staged(layout, a.ncmoe)
        elif offloads and a.ncffn > layout.low:
            total += max((b.dense // 3 for b in self.facts.blocks[layout.low : a.ncffn]), default=0)
        if staged and layout.start > 0:
            total += self._staged(Layout(0, layout.start, False, 0, 0, 1), layout.start)
        if layout.has_output and not a.nkvo:
            total += 4 * self.facts.n_vocab * a.parallel
        if pipelines(a, layout.start, layout.devices):
            total += 3 * masks + 4 * shape.ubatch * (12 if layout.low == 0 else 9) * self.facts.n_embd
        if a.block_guesses and layout.has_output:
            total += self._draft(a, shape)
        left = None if room is None else room - total
        peak = self._peak(a, shape, layout, a.ncmoe, a.ncffn, left)
        if offloads:
            peak = max(peak, self._peak(a, shape, layout, 0, 0, left))
        if staged and layout.start > 0:
            peak = max(peak, 4 * shape.ubatch * max(self._host_rows[: layout.start]) + masks)
        return total + peak

    def _peak(self, a: Assignment, shape: Shape, layout: Layout, ncmoe: int, ncffn: int, room: float | None) -> int:
        """The allocator replayed over the blocks of one device (plan.graph, plan.allocator)."""
        low, high = layout.low, layout.high if a.block_guesses else min(layout.high, self.facts.n_layer)
        if low >= high:
            return (8 if a.nkvo else 16) * shape.ubatch * self.facts.n_embd
        kind = (low > 0, low == layout.start, ncmoe > low, ncffn > low, a.block_guesses > 0)
        cache = (a.type_k, a.type_v, shape.ubatch) if a.nkvo else None
        like = (kind, shape.full, shape.window < shape.full, shape.streams, shape.sequences, cache)
        near, spread = self._near.get(like, 0.0) * shape.ubatch, self._spread[a.nkvo]
        if room is not None and near and not near / spread <= room <= near * spread:
            return int(near)
        ncmoe, ncffn = (min(max(n, low), high) for n in (ncmoe, ncffn))
        turned = self._turned[a.type_k], self._turned[a.type_v]
        place = (low, high, layout.start, ncmoe, ncffn, a.nkvo, turned)
        program = self._places.get(place)
        if program is None:
            program = self._places[place] = self._program(*place)
        again = (program.number, shape, (a.type_k, a.type_v) if a.nkvo else None)
        peak = self._peaks.get(again)
        if peak is None:
            sizes = [_bytes(size, a, shape) for size in program.table]
            peak = program.peak(sizes)
            if not self.facts.known:
                # the order of its tensors is a guess: neither the largest nor the masks fit a hole
                units = [size[0][0] for size in program.table]
                masks = [n for n, unit in zip(sizes, units, strict=True) if unit in graph.MASK.values()]
                rest = [n for n, unit in zip(sizes, units, strict=True) if unit not in graph.MASK.values()]
                peak += max(rest) + (sum(masks) if a.nkvo else 0)
            self._peaks[again] = peak
        self._near.setdefault(like, peak / shape.ubatch)
        return peak

    def _program(
        self, low: int, high: int, start: int, ncmoe: int, ncffn: int, apart: bool, turned: tuple[bool, bool]
    ) -> Program:
        """Programs of placements that differ only in how often blocks repeat are the same one."""
        facts = self.facts
        before: Block | graph.Entry = graph.Entry.INPUT
        if low:
            before = facts.blocks[low - 1] if low == start else graph.Entry.DEVICE
        numbers: list[int] = []
        if facts.arch in MAMBA or (apart and facts.has_window):  # other holes every time, other inputs at the end
            numbers += range(low, high)
        else:
            for first, last in itertools.pairwise(sorted({low, ncmoe, ncffn, high})):
                part = _representative(self._sorts[first:last], ends=last == high)
                numbers += (first + n for n in part)
        in_ram = tuple((n < ncmoe, n < ncffn) for n in numbers)
        entry = before if isinstance(before, graph.Entry) else self._sorts[low - 1]
        mixer = next((b.kind for b in reversed(facts.blocks[:low]) if b.kind is not Kind.NONE), Kind.NONE)
        ends = numbers[-1] == facts.n_layer - 1
        key = (tuple(self._sorts[n] for n in numbers), in_ram, entry, mixer, apart, turned, ends)
        program = self._programs.get(key)
        if program is None:
            walk = graph.Walk(facts, turned=turned, apart=apart)
            program = walk.program(tuple(facts.blocks[n] for n in numbers), in_ram, before, mixer, ends=ends)
            program = self._programs[key] = replace(program, number=len(self._programs))
        return program

    def _draft(self, a: Assignment, shape: Shape) -> int:
        """The prediction block's own context: one block, a mask over the whole context, with -nkvo its f16 cache."""
        d, k = self.facts.n_embd, self.facts.n_expert_used
        block = self.facts.blocks[-1]
        rows = max(3 * block.ff, 3 * k * block.ffe + 5 * d if block.experts else 0)
        copied = 2 * shape.full * (block.k_width + block.v_width) if a.nkvo else 0
        return shape.ubatch * (4 * rows + 2 * shape.full) + copied

    def _staged(self, layout: Layout, high: int) -> int:
        """The largest matrix that is copied for one operation; twice for delta-net models, whose hole is kept."""
        blocks = self.facts.blocks[layout.low : min(layout.high, high)]
        largest = max((b.largest_expert or b.dense // 3 for b in blocks), default=0)
        return largest * (2 if self.facts.arch in DELTA_NET else 1)

    def host(self, a: Assignment, shape: Shape, start: int, devices: int) -> int:
        """Bytes on the host: inputs and masks, and the rows of what runs there."""
        facts, d = self.facts, self.facts.n_embd
        rows = 4 * d
        if start > 0:
            rows = max(rows, *self._host_rows[:start])
        masks, mine = self.masks(shape), self._expert_rows[start : a.ncmoe]
        total = 4 * shape.ubatch * rows + masks
        if any(mine):
            if self._uniform and start == 0:
                k, ffe = facts.n_expert_used, max(b.ffe for b in facts.blocks)
                total = max(total, self._beside(a, shape, k * ffe, k * d, facts.n_expert))
            else:
                total = max(total, 4 * shape.ubatch * max(mine) + masks)
        if a.ncffn > start:
            widest = max((b.ff for b in facts.blocks[start : a.ncffn]), default=0)
            if self._uniform and start == 0:
                total = max(total, self._beside(a, shape, widest, d, 0))
            else:
                rows = max(rows, (1 if facts.arch in UNGATED else 3) * widest + 2 * d)
        if a.nkvo and facts.recurrent:
            conv = facts.ssm_inner + 2 * facts.ssm_groups * facts.ssm_state
            rows = max(rows, conv + (5 * d if facts.arch in MAMBA else facts.ssm_inner))
            if facts.arch in MAMBA and max(a.ncmoe, a.ncffn) > start:
                # behind the mixed embeddings, which nothing frees
                inner = (1 if facts.arch in UNGATED else 2) * facts.n_expert_used * max(b.ffe for b in facts.blocks)
                rows = max(rows, 5 * d + (inner + facts.n_expert_used * d if any(mine) else 0))
                rows = max(rows, 5 * d + max((b.ff for b in facts.blocks[start : a.ncffn]), default=0))
        total = max(total, 4 * shape.ubatch * rows + masks)
        if start > 0 or a.nkvo:
            total += self._state * shape.streams
        if pipelines(a, start, devices):
            total += 3 * masks + 4 * shape.ubatch * 6 * d
        if a.block_guesses:
            block, rows = facts.blocks[-1], 2 * d
            if max(a.ncmoe if block.experts else a.ncffn, start) >= facts.n_layer_all:  # its weights are here too
                rows += 2 * d + 3 * (facts.n_expert_used * block.ffe if block.experts else block.ff)
            total += shape.ubatch * (4 * rows + 2 * shape.full)
        return total

    def _beside(self, a: Assignment, shape: Shape, inner: int, out: int, chosen: int) -> int:
        key = (inner, out, chosen)
        program = self._programs.get(key)
        if program is None:
            walked = graph.host_beside(self.facts, *key)
            program = self._programs[key] = replace(walked, number=len(self._programs))
        peak = self._peaks.get((program.number, shape))
        if peak is None:
            peak = program.peak([_bytes(size, a, shape) for size in program.table])
            self._peaks[program.number, shape] = peak
        return peak


def _representative(sorts: Sequence[Hashable], *, ends: bool) -> list[int]:
    """Numbers of blocks that stand for all: from the second of each sort on the allocator repeats itself.

    ends: nothing follows. Else the last ones are kept too, after a cut between two blocks of the same sort.
    """
    seen: dict[Hashable, int] = {}
    last = 0
    for number, sort in enumerate(sorts):
        seen[sort] = seen.get(sort, 0) + 1
        if seen[sort] <= 2:
            last = number
    lead = min(last + 2, len(sorts))
    again = next(n for n in range(len(sorts) - 1, -1, -1) if sorts[n] == sorts[lead - 1])
    return [*range(lead), *(() if ends else range(max(again + 1, lead), len(sorts)))]


def _signature(block: Block) -> tuple[object, ...]:
    """What decides a block's tensors."""
    moe = block.experts > 0
    return (block.kind, block.k_width, block.v_width, block.heads, block.ff, block.ffe if moe else 0, block.shared_ff)


@lru_cache(maxsize=4)
def compute_of(facts: Facts) -> Compute:
    """One record of replays for every estimator of a model."""
    return Compute(facts)


def _bytes(size: Size, a: Assignment, shape: Shape) -> int:
    units = {
        graph.ROW: 4 * shape.ubatch,
        graph.SEQUENCE: 4 * shape.sequences,
        graph.OTHERS: 4 * (shape.sequences - 1),
        graph.BYTES: 1,
        graph.MASK[Kind.FULL]: 2 * shape.ubatch * shape.full,
        graph.MASK[Kind.WINDOW]: 2 * shape.ubatch * shape.window,
    }
    total = 0
    for unit, amount in size:
        if unit in units:
            total += amount * units[unit]
            continue
        kind = KV_TYPES[a.type_k if unit in graph.KEYS.values() else a.type_v]
        cells = shape.window if unit in (graph.KEYS[Kind.WINDOW], graph.VALUES[Kind.WINDOW]) else shape.full
        total += row_bytes(kind, -(-amount // 32) * 32) * cells * shape.streams
    return -(-total // 32) * 32


def pipelines(a: Assignment, start: int, devices: int) -> bool:
    """Whether llama_context runs several GPUs at once: 4 copies of each input (GGML_SCHED_MAX_COPIES).

    Only with every layer on a GPU, the cache too, and no tensor overridden. Rows measured with two devices.
    """
    return devices > 1 and start == 0 and not (a.nkvo or a.ncmoe or a.ncffn)


def _rows(facts: Facts, block: Block) -> tuple[int, int]:
    """Rows of one block on the host, and when only its experts are there."""
    d = facts.n_embd
    host, outside = 5 * d, 0
    if block.experts:
        base, gated = _expert_rows(facts, block)
        host = max(host, base + (d if gated else 0))
        outside = base - (2 * d if gated else 3 * d)
    width = max(block.ff, block.shared_ff)
    if width:
        more = 2 * d if facts.arch == "granitehybrid" and block.ff else 0
        host = max(host, (1 if facts.arch in UNGATED else 3) * width + 5 * d + more)
    if block.kind is Kind.RECURRENT:
        host = max(host, _recurrent_rows(facts) + d)
    if facts.mla:
        host = max(host, block.heads * facts.latent_row + 4 * d)
    return host, outside


def _expert_rows(facts: Facts, block: Block) -> tuple[int, bool]:
    """build_moe_ffn: up, gate, product, then the result, which reuses a hole only when it fits."""
    d, k, ffe = facts.n_embd, facts.n_expert_used, block.ffe
    if facts.arch in UNGATED:  # relu and square in place
        return k * ffe + k * d + 5 * d, False
    return 3 * k * ffe + 4 * d + (k * d if d > 2 * ffe else 0), True


def _recurrent_rows(facts: Facts) -> int:
    d, inner = facts.n_embd, facts.ssm_inner
    conv = inner + 2 * facts.ssm_groups * facts.ssm_state
    if facts.arch in DELTA_NET:
        return 2 * conv + 4 * d
    return 3 * conv + 2 * inner + facts.ssm_rank + 4 * d
