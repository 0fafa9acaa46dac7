"""Compute buffers: the peak of the live tensors while one ubatch passes through a backend's part of the graph.

llama.cpp reserves them with ggml_gallocr for its largest graph (graph_reserve, src/llama-context.cpp). Each
part is linear in the ubatch, so a block is described by rows: F32 values per token that are alive at once. The
rows below are the live tensors of build_ffn, build_moe_ffn (src/llama-graph.cpp), delta-net-base.cpp and
mamba-base.cpp, with the holes that the allocator's best fit leaves; every term was checked against
llama-server's own report (tests/planning, docs/planner.md).

d = n_embd, k = experts used, q = heads times head size.

| part                       | rows                                                                     |
| -------------------------- | ------------------------------------------------------------------------ |
| gated feed-forward         | 3 ff + 4 d: up, gate, their product; residual, norm, input, output       |
| experts                    | 3 k ffe + 4 d, and k d more when the result fits no hole (k d > 2 k ffe) |
| experts in RAM, GPU's side | 2 k d + 4 d: the copied result and its weighted form                     |
| experts in RAM, host side  | the experts' rows less 2 d                                               |
| blocks on the host         | as on the GPU, and d: the embedded input stays alive                     |
| a GPU with only the last blocks | as a whole GPU less 2 d (dense) or d (experts): its input is a copy |
"""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.gguf import row_bytes
from llmstack.plan import graph
from llmstack.plan.allocator import Program, Size
from llmstack.plan.assignment import KV_TYPES, Assignment
from llmstack.plan.facts import DELTA_NET, MAMBA, UNGATED, Block, Facts, Kind
from llmstack.plan.tensors import is_quantised

MIB = 1 << 20


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


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one block: on a GPU that has every block, on one that has only the last, and on the host."""

    whole: int
    part: int
    host: int
    experts_host: int  # when only its experts are on the host
    experts_gpu: int  # the GPU's side of that


class Compute:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        # with one kind of attention everywhere, the host's mask is free again after the first copy to the GPU
        self._uniform = {b.kind for b in facts.blocks} == {Kind.FULL}
        self._seen: dict[tuple[int, int], tuple[bool, bool]] = {}
        self._rows = [_rows(facts, block) for block in facts.blocks]
        self._programs: dict[tuple[object, ...], Program] = {}
        self._peaks: dict[tuple[object, ...], int] = {}
        self._spans: dict[tuple[int, int], tuple[tuple[Block, ...], tuple[int, ...]]] = {}
        self._sorts = [hash(graph.signature(block)) for block in facts.blocks]
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

    def device(self, a: Assignment, shape: Shape, layout: Layout, *, staged: bool) -> int:
        """Bytes on one device. staged: the backend copies weights from RAM for large batches (op-offload)."""
        if layout.low >= layout.high and not layout.has_output:
            return 0
        whole = layout.start == 0 and layout.low == 0
        mine = self._rows[layout.low : layout.high]
        rows = max((r.whole if whole else r.part for r in mine), default=4 * self.facts.n_embd)
        if self.facts.arch == "granitehybrid" and not whole:  # the mask leaves a hole that its experts do not fit
            rows += 2 * self.facts.n_embd * min(shape.full, 65536) // 65536
        total = 0
        in_ram = self._rows[layout.low : min(layout.high, a.ncmoe)]
        if any(r.experts_gpu for r in in_ram):
            rows = max(rows, max(r.experts_gpu for r in in_ram))
            if staged:
                total += self._staged(layout, a.ncmoe)
        elif staged and a.ncffn > layout.low:
            total += max((b.dense // 3 for b in self.facts.blocks[layout.low : a.ncffn]), default=0)
        if staged and layout.start > 0:
            # op-offload: blocks in RAM run on the first GPU in large batches, one matrix at a time
            rows = max(rows, max(r.host for r in self._rows[: layout.start]))
            total += self._staged(Layout(0, layout.start, False, 0, 0, 1), layout.start)
        copied = total
        masks = self.masks(shape, layout.low, layout.high)
        total += 4 * shape.ubatch * rows + masks + self._state * shape.streams
        if layout.has_output:
            total += 4 * self.facts.n_vocab * a.parallel
        if a.nkvo and mine:
            apart = self._cache_in_ram(a, shape, layout)
            moved = a.ncmoe > layout.low or a.ncffn > layout.low or (staged and layout.start > 0)
            total = max(total, apart + copied) if moved else apart
        if pipelines(a, layout.start, layout.devices):
            total += 3 * masks + 4 * shape.ubatch * (12 if layout.low == 0 else 9) * self.facts.n_embd
        if a.draft_max and layout.has_output:
            total += self._draft(shape)
        return total

    def _cache_in_ram(self, a: Assignment, shape: Shape, layout: Layout) -> int:
        """-nkvo: the allocator replayed over the blocks with their caches' copies (plan.graph, plan.allocator)."""
        trunk = layout.high - (0 if a.draft_max else sum(b.draft for b in self.facts.blocks[layout.low : layout.high]))
        before = self.facts.blocks[layout.low - 1] if layout.low else None
        span, sorts = self._span(layout.low, trunk)
        if not span:
            return 8 * shape.ubatch * self.facts.n_embd
        turned = self._turned(a)
        key = (sorts, self._sorts[layout.low - 1] if before else None, turned)
        again = (key, shape, a.type_k, a.type_v)
        peak = self._peaks.get(again)
        if peak is None:
            program = self._programs.get(key)
            if program is None:
                program = self._programs[key] = graph.Walk(self.facts, turned=turned).program(span, before)
            peak = program.peak([_bytes(size, a, shape) for size in program.table])
            if not self.facts.known:  # the order of its tensors is a guess: nothing fits a hole
                peak += max(_bytes(size, a, shape) for size in program.table)
            self._peaks[again] = peak
        return peak

    def _span(self, low: int, high: int) -> tuple[tuple[Block, ...], tuple[int, ...]]:
        found = self._spans.get((low, high))
        if found is None:
            span = graph.representative(self.facts.arch, self.facts.blocks[low:high])
            found = self._spans[low, high] = span, tuple(self._sorts[low : low + len(span)])
        return found

    def _turned(self, a: Assignment) -> tuple[bool, bool]:
        """llama_kv_cache: K and V are rotated before they are quantised when heads are a multiple of 64."""
        if self.facts.mla or any(b.head_dim % 64 for b in self.facts.blocks if b.k_width):
            return False, False
        return is_quantised(KV_TYPES[a.type_k]), is_quantised(KV_TYPES[a.type_v])

    def _draft(self, shape: Shape) -> int:
        """The prediction block's own context: one block and a mask over the whole context."""
        d, k = self.facts.n_embd, self.facts.n_expert_used
        block = self.facts.blocks[-1]
        rows = max(3 * block.ff, 3 * k * block.ffe + 5 * d if block.experts else 0)
        return shape.ubatch * (4 * rows + 2 * shape.full)

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
            rows = max([rows, *(r.host for r in self._rows[: min(start, len(self._rows))])])
        masks, mine = self.masks(shape), self._rows[start : a.ncmoe]
        total = 4 * shape.ubatch * rows + masks
        if any(r.experts_host for r in mine):
            if self._uniform and start == 0:
                k, ffe = facts.n_expert_used, max(b.ffe for b in facts.blocks)
                total = max(total, _experts_beside(masks, *(4 * shape.ubatch * n for n in (d, k * ffe, k * d))))
            else:
                total = max(total, 4 * shape.ubatch * max(r.experts_host for r in mine) + masks)
        if a.ncffn > start:
            widest = max((b.ff for b in facts.blocks[start : a.ncffn]), default=0)
            if self._uniform and start == 0:
                total = max(total, _experts_beside(masks, *(4 * shape.ubatch * n for n in (d, widest, d))))
            else:
                rows = max(rows, (1 if facts.arch in UNGATED else 3) * widest + 2 * d)
        if a.nkvo and facts.recurrent:
            conv = facts.ssm_inner + 2 * facts.ssm_groups * facts.ssm_state
            rows = max(rows, conv + (5 * d if facts.arch in MAMBA else facts.ssm_inner))
        total = max(total, 4 * shape.ubatch * rows + masks)
        if start > 0 or a.nkvo:
            total += self._state * shape.streams
        if pipelines(a, start, devices):
            total += 3 * masks + 4 * shape.ubatch * 6 * d
        if a.draft_max:
            total += shape.ubatch * (4 * 2 * d + 2 * shape.full)
        return total


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


def _experts_beside(mask: int, d: int, inner: int, out: int) -> int:
    """Bytes on the host when experts run there and the mask's space is a hole: the allocator's best fit.

    up, gate and product go into the hole while they fit, the result into what up and gate left.
    """
    hole, tail, inside = mask, 0, 0
    for _ in range(3):
        if inner <= hole:
            hole, inside = hole - inner, inside + 1
        else:
            tail += inner
    freed = mask - inner if inside == 3 else mask  # the product still sits in the hole
    largest = max(2 * inner if inside == 3 else freed, 2 * inner if inside == 0 else 0)
    return max(mask + 2 * d + tail + (out if out >= largest else 0), mask + 4 * d)


def _rows(facts: Facts, block: Block) -> _Rows:
    d, k = facts.n_embd, facts.n_expert_used
    query = block.heads * block.head_dim if block.k_width else 0
    whole, part, host, outside, inside = 4 * d, 2 * d, 5 * d, 0, 0
    if block.experts:
        base, gated = _expert_rows(facts, block)
        whole = max(whole, base)
        part = max(part, base + _expert_part(facts, query))
        host = max(host, base + (d if gated else 0))
        outside = base - (2 * d if gated else 3 * d)
        inside = 2 * k * d + (5 if facts.arch in DELTA_NET else 4) * d
    width = max(block.ff, block.shared_ff)
    if width:
        more = {"mistral3": d, "granitehybrid": 2 * d}.get(facts.arch, 0) if block.ff else 0
        times = 1 if facts.arch in UNGATED else 3
        whole = max(whole, times * width + 4 * d + more)
        part = max(part, times * width + (2 * d if block.ff else 3 * d) + (more // 2 if times == 3 else 0))
        host = max(host, times * width + 5 * d + (more if facts.arch == "granitehybrid" else 0))
    if block.kind is Kind.RECURRENT:
        mixed, alone = _recurrent_rows(facts)
        whole, part, host = max(whole, mixed), max(part, alone), max(host, mixed + d)
    if facts.mla:
        latent = block.heads * facts.latent_row + d
        whole, part, host = max(whole, latent + 2 * d), max(part, latent), max(host, latent + 3 * d)
    return _Rows(whole, part, host, outside, inside)


def _expert_rows(facts: Facts, block: Block) -> tuple[int, bool]:
    """build_moe_ffn: up, gate, product, then the result, which reuses a hole only when it fits."""
    d, k, ffe = facts.n_embd, facts.n_expert_used, block.ffe
    if facts.arch in UNGATED:  # relu and square in place
        return k * ffe + k * d + 5 * d, False
    return 3 * k * ffe + 4 * d + (k * d if d > 2 * ffe else 0), True


def _expert_part(facts: Facts, query: int) -> int:
    """What a GPU with only the last blocks takes more or less: which holes its first block leaves."""
    d = facts.n_embd
    if facts.arch == "qwen3moe":
        return query
    return {"gpt-oss": d, "granitehybrid": -d * 5 // 8, "nemotron_h_moe": -d // 2}.get(facts.arch, -d)


def _recurrent_rows(facts: Facts) -> tuple[int, int]:
    """Rows of a recurrent block among all blocks, and as the first one on a device."""
    d, inner = facts.n_embd, facts.ssm_inner
    conv = inner + 2 * facts.ssm_groups * facts.ssm_state
    if facts.arch in DELTA_NET:
        return 2 * conv + 4 * d, 2 * conv + 4 * inner
    project = inner + conv + facts.ssm_rank
    return project + 2 * conv + inner + 4 * d, project + 2 * conv + inner + 2 * d
