"""Compute buffers: the peak of the live tensors while one ubatch passes through a backend's part of the graph.

llama.cpp reserves them with ggml_gallocr for its largest graph (graph_reserve, src/llama-context.cpp). On a GPU the
blocks' tensors are replayed (plan.graph, plan.allocator); what runs on the host is described by rows
(plan.host_rows). Both were checked against llama-server's own report (tests/support/planner, docs/planner.md).

A plan asks for thousands of these peaks. Most differ only in how often blocks repeat, so replays are kept in a Memo,
by everything they depend on: a result is the same whoever asks, and in whatever order.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from llmstack.plan import host_rows
from llmstack.plan.allocator import Program
from llmstack.plan.assignment import DRAFT_KV, KV_TYPES, Assignment
from llmstack.plan.facts import BlockFacts, BlockKind, ModelFacts
from llmstack.plan.graph import Before, ContextShape, GraphReplay, InRam, host_beside, is_mask, table_bytes
from llmstack.plan.tensors import is_quantised

MIB = 1 << 20
# Peaks per token of placements of one kind differ by less than these factors (tests/unit/plan/test_compute.py): by
# which blocks have experts in RAM, by the micro-batch, by whether a quantised cache rotates K and V; with -nkvo by
# the first only. Mamba's states leave more holes.
SPREAD, MAMBA_SPREAD = {False: 1.2, True: 1.45}, {False: 1.35, True: 1.9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Blocks [low, high) of one device of `devices` that have layers; has_output: the output layer too.

    start: the first block on a GPU.
    """

    low: int
    high: int
    has_output: bool
    start: int
    devices: int


class Placement(NamedTuple):
    """What decides which tensors a device's part of the graph has, but for their bytes.

    Blocks [low, high) are on it, from `start` on all are on GPUs; the experts of blocks below ncmoe and the dense
    weights of those below ncffn are in RAM, with -nkvo the cache too. rotated: K, and V.
    """

    low: int
    high: int
    start: int
    ncmoe: int
    ncffn: int
    nkvo: bool
    rotated: tuple[bool, bool]


CacheTypes = tuple[str, str] | None  # of K and V, where a copy of the cache is part of the graph


@dataclass(frozen=True, slots=True, eq=False)
class ReplayedProgram:
    """One program of allocations, and its peaks so far: bytes by the context's shape and the cache's types."""

    program: Program
    peaks: dict[tuple[ContextShape, CacheTypes], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Memo:
    """Replays of one model, by everything they depend on beside the model.

    placed: by placement. sequences: by what GraphReplay.program was given, with each block's signature for the block;
    placements that differ only in how often blocks repeat share one. beside: by host_beside's arguments.
    """

    placed: dict[Placement, ReplayedProgram] = field(default_factory=dict)
    sequences: dict[Hashable, ReplayedProgram] = field(default_factory=dict)
    beside: dict[tuple[int, int, int], ReplayedProgram] = field(default_factory=dict)


class Compute:
    """Compute buffers of one model, in bytes."""

    def __init__(self, facts: ModelFacts) -> None:
        self.facts = facts
        self._memo = Memo()
        self._is_head = facts.companion is not None and facts.companion.is_block
        # with one kind of attention everywhere, the host's mask is free again after the first copy to the GPU
        self._uniform = {b.kind for b in facts.blocks} == {BlockKind.FULL}
        self._full, self._windowed = (
            [0, *itertools.accumulate(b.kind is kind for b in facts.blocks)]
            for kind in (BlockKind.FULL, BlockKind.WINDOW)
        )
        self._host_rows = [host_rows.block_rows(facts, block) for block in facts.blocks]
        self._expert_rows = [host_rows.expert_rows(facts, block) for block in facts.blocks]
        self._largest = [block.largest_expert or block.dense // 3 for block in facts.blocks]
        self._references: dict[tuple[object, ...], float] = {}
        self._spread = MAMBA_SPREAD if facts.architecture.mamba2 else SPREAD
        self._signatures = [hash(_signature(block)) for block in facts.blocks]
        # llama_kv_cache: K and V are rotated before they are quantised when heads are a multiple of 64
        rotates = not (facts.mla or any(b.head_dim % 64 for b in facts.blocks if b.k_width))
        self._rotated = {name: rotates and is_quantised(kind) for name, kind in KV_TYPES.items()}
        # Mamba's scan reads its state in the cache; the scheduler copies it between devices
        self._host_state = 4 * facts.state_s if facts.recurrent and not facts.architecture.delta_net else 0

    def for_planner(self) -> Compute:
        """The same replays, but no figures that stood for like placements in another planner."""
        compute = copy(self)
        compute._references = {}
        return compute

    def masks(self, shape: ContextShape, low: int = 0, high: int | None = None) -> int:
        """F16 masks of the blocks [low, high), one per kind of cache (llm_graph_input_attn_kv).

        Each is [cells, tokens of a stream, 1, streams].
        """
        high = len(self.facts.blocks) if high is None else high
        cells = shape.full if self._full[high] > self._full[low] else 0
        cells += shape.window if self._windowed[high] > self._windowed[low] else 0
        return 2 * shape.ubatch * cells

    def device(
        self, a: Assignment, shape: ContextShape, layout: Layout, *, staged: bool, room: float | None = None
    ) -> int:
        """Bytes on one device. staged: the backend copies weights from RAM for large batches (op-offload).

        room: bytes that are left, when it matters only whether the result exceeds them.
        """
        if layout.low >= layout.high and not layout.has_output:
            return 0
        if self._is_head:
            return self._draft(a, shape)
        # a batch large enough for op-offload computes what is in RAM on the device, with one matrix copied at a time
        # (ggml_backend_sched_backend_id_from_cur, GGML_OP_OFFLOAD_MIN_BATCH)
        offloads = staged and max(a.ncmoe, a.ncffn) > layout.low
        masks = self.masks(shape, layout.low, layout.high)
        total = 0
        if offloads and any(b.experts for b in self.facts.blocks[layout.low : min(layout.high, a.ncmoe)]):
            total += self._staged_matrix(layout.low, min(layout.high, a.ncmoe))
        elif offloads and a.ncffn > layout.low:
            total += max((b.dense // 3 for b in self.facts.blocks[layout.low : a.ncffn]), default=0)
        if staged and layout.start > 0:
            total += self._staged_matrix(0, layout.start)
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

    def _peak(
        self, a: Assignment, shape: ContextShape, layout: Layout, ncmoe: int, ncffn: int, room: float | None
    ) -> int:
        """The allocator replayed over the blocks of one device (plan.graph, plan.allocator).

        A replay takes a third of a millisecond. Where `room` is far from what a like placement took, that figure
        stands for this one: SPREAD bounds the difference, so the comparison with `room` comes out the same.
        """
        low, high = layout.low, layout.high if a.block_guesses else min(layout.high, self.facts.n_layer)
        if low >= high:
            return (8 if a.nkvo else 16) * shape.ubatch * self.facts.n_embd
        kind = (low > 0, low == layout.start, ncmoe > low, ncffn > low, a.block_guesses > 0)
        cache = (a.type_k, a.type_v, shape.ubatch) if a.nkvo else None
        like = (kind, shape.full, shape.window < shape.full, shape.streams, shape.sequences, cache)
        reference, spread = self._references.get(like, 0.0) * shape.ubatch, self._spread[a.nkvo]
        if room is not None and reference and not reference / spread <= room <= reference * spread:
            return int(reference)
        placement = Placement(
            low=low,
            high=high,
            start=layout.start,
            ncmoe=min(max(ncmoe, low), high),
            ncffn=min(max(ncffn, low), high),
            nkvo=a.nkvo,
            rotated=(self._rotated[a.type_k], self._rotated[a.type_v]),
        )
        peak = self._device_peak(self._placed(placement), a, shape)
        self._references.setdefault(like, peak / shape.ubatch)
        return peak

    def _device_peak(self, replay: ReplayedProgram, a: Assignment, shape: ContextShape) -> int:
        key = (shape, (a.type_k, a.type_v) if a.nkvo else None)
        peak = replay.peaks.get(key)
        if peak is None:
            sizes = table_bytes(replay.program.table, a, shape)
            peak = replay.program.peak(sizes)
            if not self.facts.architecture.checked:
                peak += _margin(replay.program, sizes, nkvo=a.nkvo)
            replay.peaks[key] = peak
        return peak

    def _placed(self, placement: Placement) -> ReplayedProgram:
        replay = self._memo.placed.get(placement)
        if replay is None:
            replay = self._memo.placed[placement] = self._replay(placement)
        return replay

    def _replay(self, placement: Placement) -> ReplayedProgram:
        """Programs of placements that differ only in how often blocks repeat are the same one."""
        facts, signatures = self.facts, self._signatures
        low, high, start, ncmoe, ncffn, nkvo, rotated = placement
        before: BlockFacts | Before = Before.INPUT
        if low:
            before = facts.blocks[low - 1] if low == start else Before.DEVICE
        numbers: list[int] = []
        if facts.architecture.mamba2 or (nkvo and facts.has_window):
            numbers += range(low, high)  # other holes every time, other inputs at the end
        else:
            for first, last in itertools.pairwise(sorted({low, ncmoe, ncffn, high})):
                part = _representative(signatures[first:last], ends=last == high)
                numbers += (first + n for n in part)
        in_ram = tuple(InRam(experts=n < ncmoe, dense=n < ncffn) for n in numbers)
        entry = before if isinstance(before, Before) else signatures[low - 1]
        mixer = next((b.kind for b in reversed(facts.blocks[:low]) if b.kind is not BlockKind.NONE), BlockKind.NONE)
        ends = numbers[-1] == facts.n_layer - 1
        key = (tuple(signatures[n] for n in numbers), in_ram, entry, mixer, nkvo, rotated, ends)
        replay = self._memo.sequences.get(key)
        if replay is None:
            graph = GraphReplay(facts, rotated=rotated, cache_in_ram=nkvo)
            program = graph.program(tuple(facts.blocks[n] for n in numbers), in_ram, before, mixer, ends=ends)
            replay = self._memo.sequences[key] = ReplayedProgram(program)
        return replay

    def _draft(self, a: Assignment, shape: ContextShape) -> int:
        """The prediction block's own context, whose cache is f16 whatever the model's is."""
        block = len(self.facts.blocks) - 1
        key = (self._signatures[block], a.ncmoe > block, a.ncffn > block, Before.HEAD, a.nkvo)
        replay = self._memo.sequences.get(key)
        if replay is None:
            graph = GraphReplay(self.facts, rotated=(False, False), cache_in_ram=a.nkvo)
            in_ram = InRam(experts=a.ncmoe > block, dense=a.ncffn > block)
            program = graph.program((self.facts.blocks[block],), (in_ram,), Before.HEAD, ends=True)
            replay = self._memo.sequences[key] = ReplayedProgram(program)
        return self._device_peak(replay, replace(a, type_k=DRAFT_KV, type_v=DRAFT_KV), shape)

    def _staged_matrix(self, low: int, high: int) -> int:
        """The largest matrix of blocks [low, high) that is copied for one operation.

        Twice for delta-net models, which do not use the first copy's memory again.
        """
        return max(self._largest[low:high], default=0) * (2 if self.facts.architecture.delta_net else 1)

    def host(self, a: Assignment, shape: ContextShape, start: int, devices: int) -> int:
        """Bytes on the host: inputs and masks, and the rows of what runs there."""
        facts, d = self.facts, self.facts.n_embd
        if self._is_head:
            return self._draft_on_host(a, shape, start)
        rows = max(4 * d, 2 * facts.companion.width if facts.companion is not None else 0)
        if start > 0:
            rows = max(rows, *self._host_rows[:start])
        masks, experts = self.masks(shape), self._expert_rows[start : a.ncmoe]
        total = 4 * shape.ubatch * rows + masks
        if any(experts):
            if self._uniform and start == 0:
                k, ffe = facts.n_expert_used, max(b.ffe for b in facts.blocks)
                total = max(total, self._beside(a, shape, k * ffe, k * d, facts.n_expert))
            else:
                total = max(total, 4 * shape.ubatch * max(experts) + masks)
        if a.ncffn > start:
            widest = max((b.ff for b in facts.blocks[start : a.ncffn]), default=0)
            if self._uniform and start == 0:
                total = max(total, self._beside(a, shape, widest, d, 0))
            else:
                rows = max(rows, host_rows.inner_tensors(facts) * widest + 2 * d)
        if a.nkvo and facts.recurrent:
            rows = max(rows, self._state_rows(a, start, experts=any(experts)))
        total = max(total, 4 * shape.ubatch * rows + masks)
        if start > 0 or a.nkvo:
            total += self._host_state * shape.streams
        if pipelines(a, start, devices):
            total += 3 * masks + 4 * shape.ubatch * 6 * d
        return total + (self._draft_on_host(a, shape, start) if a.block_guesses else 0)

    def _draft_on_host(self, a: Assignment, shape: ContextShape, start: int) -> int:
        facts, d = self.facts, self.facts.n_embd
        block, rows = facts.blocks[-1], 2 * d
        if max(a.ncmoe if block.experts else a.ncffn, start) >= facts.n_layer_all:  # its weights are here too
            rows += 2 * d + 3 * (facts.n_expert_used * block.ffe if block.experts else block.ff)
        return shape.ubatch * (4 * rows + 2 * shape.full)

    def _state_rows(self, a: Assignment, start: int, *, experts: bool) -> int:
        """Rows on the host when recurrent states are there (-nkvo). experts: it computes some, too."""
        facts, d = self.facts, self.facts.n_embd
        if not facts.architecture.mamba2:
            # build_conv_state copies the window of each guess, to roll back to (src/models/delta-net-base.cpp), beside
            # the scan's result or the mixed embeddings, which nothing frees
            return host_rows.conv_width(facts) * (1 + a.draft_max) + max(facts.ssm_inner, 2 * d)
        rows = host_rows.conv_width(facts) + 5 * d
        if max(a.ncmoe, a.ncffn) > start:  # behind the mixed embeddings, which nothing frees
            up_and_gate = (
                (2 if facts.architecture.gated else 1) * facts.n_expert_used * max(b.ffe for b in facts.blocks)
            )
            rows = max(rows, 5 * d + (up_and_gate + facts.n_expert_used * d if experts else 0))
            rows = max(rows, 5 * d + max((b.ff for b in facts.blocks[start : a.ncffn]), default=0))
        return rows

    def _beside(self, a: Assignment, shape: ContextShape, inner: int, out: int, chosen: int) -> int:
        key = (inner, out, chosen)
        replay = self._memo.beside.get(key)
        if replay is None:
            replay = self._memo.beside[key] = ReplayedProgram(host_beside(self.facts, inner, out, chosen))
        peak = replay.peaks.get((shape, None))
        if peak is None:
            sizes = table_bytes(replay.program.table, a, shape)
            peak = replay.peaks[shape, None] = replay.program.peak(sizes)
        return peak


def _margin(program: Program, sizes: Sequence[int], *, nkvo: bool) -> int:
    """More bytes for an unchecked architecture: the order of its tensors is a guess.

    Neither the largest tensor nor, with the cache in RAM, the masks may be assumed to fit a hole.
    """
    masks = sum(size for size, entry in zip(sizes, program.table, strict=True) if is_mask(entry))
    largest = max(size for size, entry in zip(sizes, program.table, strict=True) if not is_mask(entry))
    return largest + (masks if nkvo else 0)


@lru_cache(maxsize=4)
def compute_of(facts: ModelFacts) -> Compute:
    """One record of replays for every planner of a model in this process; take its `for_planner`."""
    return Compute(facts)


def _representative(signatures: Sequence[Hashable], *, ends: bool) -> list[int]:
    """Blocks to simulate. The allocator's result is the same from the second block of each kind on: two suffice.

    ends: nothing follows. Else the last ones are simulated too, after a cut between two blocks of the same kind.
    """
    counts: dict[Hashable, int] = {}
    last = 0
    for number, signature in enumerate(signatures):
        counts[signature] = counts.get(signature, 0) + 1
        if counts[signature] <= 2:
            last = number
    lead = min(last + 2, len(signatures))
    again = next(n for n in range(len(signatures) - 1, -1, -1) if signatures[n] == signatures[lead - 1])
    return [*range(lead), *(() if ends else range(max(again + 1, lead), len(signatures)))]


def _signature(block: BlockFacts) -> tuple[object, ...]:
    """What decides a block's tensors."""
    moe = block.experts > 0
    return (block.kind, block.k_width, block.v_width, block.heads, block.ff, block.ffe if moe else 0, block.shared_ff)


def pipelines(a: Assignment, start: int, devices: int) -> bool:
    """Whether llama_context runs several GPUs at once: 4 copies of each input (GGML_SCHED_MAX_COPIES).

    Only with every layer on a GPU, the cache too, and no tensor overridden. Rows measured with two devices.
    """
    return devices > 1 and start == 0 and not (a.nkvo or a.ncmoe or a.ncffn)
