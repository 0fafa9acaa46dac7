"""Predicted speed of an assignment: what limits each step, added up.

Decode reads every active weight and the live cache once a token; prefill computes, and copies what is not on
the GPU to it once per ubatch (op-offload, from 32 tokens on). The constants were fitted to the published points
in tests/support/planner/points.toml; docs/planner.md shows each prediction beside its point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from llmstack.gguf import row_bytes
from llmstack.hardware import Hardware, Measured
from llmstack.plan.assignment import KV_TYPES, Assignment, draft_assignment
from llmstack.plan.cards import Card, card_of
from llmstack.plan.facts import BlockKind, ModelFacts
from llmstack.plan.goal import Workload
from llmstack.plan.memory import Estimator, sharing

GPU_READ = 0.85  # share of the published bandwidth that matrix-vector kernels reach
LAYER_S = 20e-6  # launch and synchronisation of one block on a GPU
RECURRENT_S = 40e-6  # more for a recurrent block: its many small kernels
CPU_READ = 0.60  # share of the published RAM bandwidth, threads reading weights
EXPERT_SYNC_S = 0.28e-3  # per block whose experts are on the CPU: two copies of activations and a wait
SPLIT_SYNC_S = 0.1e-3  # per switch between backends for whole blocks
DENSE_RATE = 0.70  # share of the published matrix rate, dense prefill with quantised weights
MOE_RATE = 0.50  # the same where each expert sees few tokens, for a card of MOE_TFLOPS; memory holds faster ones
MOE_TFLOPS = 71.0
ATTENTION_RATE = 0.45
PINNED_LINK = 0.80  # share of the link that copies from pinned memory reach
PAGEABLE_LINK = 0.44  # the same from pageable memory: 1.8 times slower
STAGED_EXPERTS = 0.65  # of a block's expert bytes, what a ubatch really copies: routing is uneven
FEW_EXPERTS = 32  # up to here a ubatch uses them all
ASSUMED_RAM_GBPS = 50.0  # two channels of DDR4-3200
SCAN_GFLOPS = 30.0  # recurrent scan on the CPU (with -nkvo the state stays there)
ACCEPT = 0.70  # assumed share of a prediction block's guesses that are accepted, each
ACCEPT_DRAFTER = 0.60  # the same of a second model's: between what two published gains come to (docs/planner.md)
VERIFY_COST = 1.08
CORE_GFLOPS = {"amx_int8": 90.0, "avx512f": 50.0, "avx2": 32.0, "asimddp": 25.0}
CPU_BASE_GFLOPS = 8.0
CORE_CACHE_GBPS = 20.0  # a core's attention to an f16 cache in decode, with CELL_VALUES
CELL_VALUES = 190  # in decode each cell of a head costs threads as much as so many values of K and V more
ROW_VALUES = 50  # the same in prefill
RESTORE_S = 0.5  # a snapshot read back after a restart, and the rest of the request
CORE_VALUES = 0.3  # 10^9 values/s a core passes between the matrix products: norms, activations, quantised inputs


@dataclass(frozen=True, slots=True)
class Attending:
    """Attention on threads, in times of an f16 cache's: a prefill's, and a value's in decode (docs/planner.md)."""

    prefill: float
    value: float


IN_TILES = Attending(1.0, 1.0)  # ggml_compute_forward_flash_attn_ext_tiled (ggml/src/ggml-cpu/ops.cpp): f16 and f32
ROW_BY_ROW = Attending(10.0, 2.5)
ON_THREADS = {"f16": IN_TILES, "f32": IN_TILES, "q8_0": Attending(7.0, 1.5)}


def on_threads(a: Assignment) -> Attending:
    """The slower of K's and V's: one alone in f16 helps nothing."""
    return max((ON_THREADS.get(kind, ROW_BY_ROW) for kind in (a.type_k, a.type_v)), key=lambda way: way.prefill)


@dataclass(frozen=True, slots=True)
class Predicted:
    """tokens/s and s. decode_tps is at the workload's depth, prefill_tps the mean over the cold prompt."""

    prefill_tps: float
    decode_tps: float
    ttft_cold_s: float
    ttft_warm_s: float
    ttft_restart_s: float
    prompt_tokens: int
    session_s: float


@dataclass(frozen=True, slots=True)
class CpuRates:
    """What threads reach: GB/s reading, GFLOP/s in prefill, 10^9 values/s; s per block of a pass, more with experts."""

    read: float
    expert_read: float
    cache_read: float
    dense: float
    expert: float
    attention: float
    values: float
    pass_s: float
    expert_pass_s: float

    def fixed_s(self, experts: bool) -> float:
        """Of one block in one forward pass."""
        return self.pass_s + self.expert_pass_s * experts


def cpu_rates(measured: Measured | None, read: float, gflops: float, cores: int) -> CpuRates:
    """Measured rates where there are any, else from `read` GB/s and `gflops` GFLOP/s of all cores together."""
    m = measured or Measured()
    read = m.read_gbps or read
    dense = m.dense_gflops or gflops
    return CpuRates(
        read=read,
        expert_read=m.expert_read_gbps or read,
        cache_read=m.cache_read_gbps or CORE_CACHE_GBPS * cores,
        dense=dense,
        expert=m.expert_gflops or dense,
        attention=m.attention_gflops or dense / 2,
        values=m.value_gops or CORE_VALUES * cores,
        pass_s=m.pass_s or 0.0,
        expert_pass_s=m.expert_pass_s or 0.0,
    )


def _matrix_tflops(card: Card, experts: bool) -> float:
    """What prefill reaches, TFLOP/s: with experts it grows with the root of the card's rate only."""
    if not experts:
        return card.compute_tflops * DENSE_RATE
    return card.compute_tflops * MOE_RATE * min(math.sqrt(MOE_TFLOPS / card.compute_tflops), 1.3)


class Speed:
    def __init__(self, facts: ModelFacts, hardware: Hardware, estimator: Estimator) -> None:
        self.facts = facts
        self.hardware = hardware
        self.estimator = estimator
        second = estimator.drafter
        self.drafter = Speed(second.facts, hardware, second) if second is not None else None
        self.cards: tuple[Card, ...] = tuple(card_of(device) for device in hardware.devices)
        self.ram_gbps = hardware.ram.bandwidth_gbps or ASSUMED_RAM_GBPS
        rate = next((g for flag, g in CORE_GFLOPS.items() if flag in hardware.cpu.flags), CPU_BASE_GFLOPS)
        cores = max(hardware.cpu.physical_cores, 1)
        self.cpu_gflops = rate * cores
        self.rates = cpu_rates(hardware.measured, self.ram_gbps * CPU_READ, self.cpu_gflops, cores)
        share = facts.expert_share
        self._attending = max(sum(b.k_width > 0 and not b.draft for b in facts.blocks), 1)
        self._active = [b.rest + b.dense + b.experts * share for b in facts.blocks]
        bits = facts.size_bytes / facts.n_params if facts.n_params else 1.0
        self._flops_per_byte = 2.0 / bits if bits else 2.0
        self._flops = [active * self._flops_per_byte for active in self._active]
        self._attention = [4.0 * b.heads * (b.head_dim or 1) * (b.k_width > 0) for b in facts.blocks]  # for each cell
        self._matrix = [tuple(_matrix_tflops(card, experts) * 1e12 for experts in (False, True)) for card in self.cards]

    def predict(self, a: Assignment, work: Workload) -> Predicted:
        work = work.within(a.ctx // a.parallel)
        cold = self.prefill_s(a, work.cold_tokens, 0)
        warm = self.prefill_s(a, work.turn_tokens, work.depth)
        token = self.token_s(a, work.depth)
        restart = RESTORE_S + warm if self.restores(a) else cold
        turn = warm + work.output_tokens * token
        return Predicted(
            prefill_tps=work.cold_tokens / cold,
            decode_tps=1.0 / token,
            ttft_cold_s=cold + token,
            ttft_warm_s=warm + token,
            ttft_restart_s=restart + token,
            prompt_tokens=work.cold_tokens,
            session_s=cold + restart + work.turns * turn,
        )

    def restores(self, a: Assignment) -> bool:
        """Whether a snapshot of the shared prefix is of use after a restart (facts measured in docs)."""
        return a.swa_full or not self.facts.has_window

    def token_s(self, a: Assignment, depth: int) -> float:
        """Seconds per output token at `depth` tokens of context."""
        step = self._step_s(a, depth, 1)
        if not a.draft_max:
            return step
        if a.drafter:
            # a pass for each guess, and one in which the second model reads what was checked (draft-simple's process)
            draft = (a.draft_max + 1) * self._second().token_s(self._beside(a), depth)
            expected = sum(ACCEPT_DRAFTER**n for n in range(a.draft_max + 1))
            return (self._step_s(a, depth, a.draft_max + 1) * VERIFY_COST + draft) / expected
        expected = sum(ACCEPT**n for n in range(a.draft_max + 1))
        block = max(self._draft_bytes(), 1)
        bandwidth = self.cards[0].bandwidth_gbps * GPU_READ if self.cards else self.ram_gbps * CPU_READ
        draft = a.draft_max * (block / bandwidth / 1e9 + 4 * LAYER_S)
        return (self._step_s(a, depth, a.draft_max + 1) * VERIFY_COST + draft) / expected

    def _second(self) -> Speed:
        assert self.drafter is not None
        return self.drafter

    def _beside(self, a: Assignment) -> Assignment:
        return draft_assignment(a, layers=self._second().facts.n_layer_all + 1)

    def _draft_bytes(self) -> float:
        drafts = sum(x for x, b in zip(self._active, self.facts.blocks, strict=True) if b.draft)
        return drafts + self.facts.output_bytes

    def _step_s(self, a: Assignment, depth: int, tokens: int) -> float:
        """One forward pass over `tokens` tokens (1, or a verified draft)."""
        facts, n = self.facts, self.facts.n_layer_all
        start, ranges = self.estimator.ranges(a)
        widen = min(tokens, 1 / facts.expert_share) if facts.expert_share else 1.0
        widen = 1 + (widen - 1) * 0.85  # drafted tokens share some experts
        live = self._live(a, depth)
        total, cpu_bytes, syncs, host_kv = 0.0, 0.0, 0.0, 0.0
        attended = passed = 0.0  # by threads: bytes of cache; as f16, for each query head, with CELL_VALUES
        value = on_threads(a).value
        expert_bytes = 0.0  # of experts that threads read
        for block in facts.blocks[: min(start, n)]:
            if block.draft:
                continue
            cpu_bytes += block.rest + block.dense
            expert_bytes += block.experts * facts.expert_share * widen
            if block.k_width:  # from memory once for each group of heads, then passed over by each query head
                attended += live
                passed += self._as_f16(a, live) * block.heads / block.k_width * (value * block.head_dim + CELL_VALUES)
            syncs += self.rates.fixed_s(block.experts > 0)
        for (low, high), card in zip(ranges, self.cards, strict=True):
            gpu, kv, blocks = 0.0, 0.0, 0
            for il in range(low, min(high, n)):
                block = facts.blocks[il]
                if block.draft:
                    continue
                blocks += 1
                expert = block.experts * facts.expert_share * widen
                gpu += block.rest
                if il < a.ncmoe and block.experts:
                    expert_bytes += expert
                    syncs += EXPERT_SYNC_S
                else:
                    gpu += expert
                if il < a.ncffn and block.dense:
                    cpu_bytes += block.dense
                    syncs += EXPERT_SYNC_S
                else:
                    gpu += block.dense
                if block.kind is BlockKind.RECURRENT:
                    total += RECURRENT_S
                    if a.nkvo:
                        syncs += EXPERT_SYNC_S + tokens * 6.0 * facts.state_s / (SCAN_GFLOPS * 1e9)
                if block.k_width and a.nkvo:
                    host_kv += live / (card.link_gbps * PAGEABLE_LINK)
                    syncs += SPLIT_SYNC_S
                elif block.k_width:
                    kv += live
            if high == n + 1 and low < high:
                gpu += facts.output_bytes
            total += (gpu + kv) / (card.bandwidth_gbps * GPU_READ * 1e9) + blocks * LAYER_S
        if start > n:
            cpu_bytes += facts.output_bytes
        else:
            syncs += SPLIT_SYNC_S * (start > 0) + SPLIT_SYNC_S * max(len([r for r in ranges if r[0] < r[1]]) - 1, 0)
        rates = self.rates
        host_kv += passed / rates.cache_read + attended / rates.read
        cpu, experts = cpu_bytes / rates.read, expert_bytes / rates.expert_read
        if tokens > 1:  # several tokens at once: threads may be busy computing longer than reading
            cpu = max(cpu, tokens * cpu_bytes * self._flops_per_byte / rates.dense)
            experts = max(experts, tokens * expert_bytes / widen * self._flops_per_byte / rates.expert)
        total += (cpu + experts) / 1e9
        return total + host_kv / 1e9 + syncs

    @staticmethod
    def _as_f16(a: Assignment, live: float) -> float:
        """Bytes of as many cells in f16."""
        return live * 4 / sum(row_bytes(KV_TYPES[kind], 32) / 32 for kind in (a.type_k, a.type_v))

    def _seen(self, a: Assignment, cached: float) -> dict[BlockKind, float]:
        """Cells that one token's attention passes over, by the kind of block."""
        near = min(cached, self.facts.window)
        return {kind: sharing(a) * (near if kind is BlockKind.WINDOW else cached) for kind in BlockKind}

    def _live(self, a: Assignment, depth: int) -> float:
        """Bytes of live cache of one attending block."""
        return self.estimator.live_cache_bytes(a, depth) / self._attending

    def prefill_s(self, a: Assignment, tokens: int, depth: int) -> float:
        """Seconds to read `tokens` new tokens when `depth` are in the cache; a second model reads them too."""
        if a.model_guesses:
            second = self._second().prefill_s(self._beside(a), tokens, depth)
            return second + self.prefill_s(replace(a, draft_max=0, drafter=False), tokens, depth)
        facts, n = self.facts, self.facts.n_layer_all
        ubatch = min(a.ubatch, a.batch, tokens)
        if not self.cards or a.ngl == 0:
            return self._cpu_prefill_s(a, tokens, depth)
        batches = -(-tokens // ubatch)
        start, ranges = self.estimator.ranges(a)
        share = STAGED_EXPERTS if facts.n_expert > FEW_EXPERTS else 1.0
        compute, staged, syncs, scan = 0.0, 0.0, 0.0, 0.0
        owners = [0] * n
        for number, (low, high) in enumerate(ranges):
            owners[low : min(high, n)] = [number] * (min(high, n) - low)
        middle = depth + tokens / 2
        live = self._live(a, int(middle))
        seen = self._seen(a, middle)
        for il, block in enumerate(facts.blocks):
            if block.draft:
                continue
            card = self.cards[owners[il]]
            compute += self._flops[il] / self._matrix[owners[il]][block.experts > 0]
            if block.k_width:
                compute += self._attention[il] * seen[block.kind] / (card.compute_tflops * ATTENTION_RATE * 1e12)
            moved = 0.0
            if il < start:
                moved = block.rest + block.dense + block.experts * share
            else:
                moved += block.experts * share * (il < a.ncmoe)
                moved += block.dense * (il < a.ncffn)
            if moved:
                link = card.link_gbps * (PINNED_LINK if a.load_mode == "none" else PAGEABLE_LINK)
                staged += moved / (link * 1e9)
                syncs += EXPERT_SYNC_S
            off = a.nkvo or il < start
            if off and block.kind is BlockKind.RECURRENT:
                scan += 6.0 * facts.state_s / (SCAN_GFLOPS * 1e9)
            elif off and block.k_width:
                staged += live / (card.link_gbps * PAGEABLE_LINK * 1e9)
        return tokens * (compute + scan) + batches * (staged + syncs)

    def _cpu_prefill_s(self, a: Assignment, tokens: int, depth: int) -> float:
        share = self.facts.expert_share
        dense = experts = attention = values = fixed = 0.0
        seen = self._seen(a, depth + tokens / 2)
        for block in self.facts.blocks:
            if block.draft:
                continue
            dense += (block.rest + block.dense) * self._flops_per_byte
            experts += block.experts * share * self._flops_per_byte
            wide = block.ff + block.shared_ff + block.ffe * self.facts.n_expert_used
            values += 6 * self.facts.n_embd + 3 * wide
            fixed += self.rates.fixed_s(block.experts > 0)
            if block.k_width:
                attention += 4.0 * seen[block.kind] * block.heads * (block.head_dim + ROW_VALUES)
        rates = self.rates
        attention *= on_threads(a).prefill
        each = dense / rates.dense + experts / rates.expert + attention / rates.attention + values / rates.values
        passes = -(-tokens // max(min(a.ubatch, a.batch), 1))
        return tokens * each / 1e9 + passes * fixed
