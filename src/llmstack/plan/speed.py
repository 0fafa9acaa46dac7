"""Predicted speed of an assignment: what limits each step, added up.

Decode reads every active weight and the live cache once a token. Prefill computes; what lies in RAM is copied to a card
once per ubatch where there is a card, for from OFFLOAD_MIN_BATCH tokens on the scheduler gives the work to it
(ggml_backend_sched_backend_id_from_cur and ggml_backend_sched_compute_splits, ggml/src/ggml-backend.cpp), -ngl 0
included. So are the cache and the recurrent state of such blocks, and with -nkvo of all: with flash attention nothing
holds attention on the processor (llm_graph_context::build_attn_mha, src/llama-graph.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmstack.gguf import row_bytes
from llmstack.hardware import Hardware
from llmstack.plan.assignment import KV_TYPES, Assignment, draft_assignment
from llmstack.plan.cards import Card, card_of
from llmstack.plan.facts import BlockFacts, BlockKind, ModelFacts
from llmstack.plan.goal import Workload
from llmstack.plan.memory import Estimator, sharing
from llmstack.plan.rates import (
    ASSUMED_RAM_GBPS,
    CELL_VALUES,
    CORE_GFLOPS,
    CPU_BASE_GFLOPS,
    FEW_EXPERTS,
    OFFLOAD_MIN_BATCH,
    ON_THREADS,
    PINNED_LINK,
    RATES,
    RESTORE_S,
    ROW_BY_ROW,
    ROW_VALUES,
    Attending,
    Rates,
    cpu_rates,
)

PLAIN_KV = frozenset({"f32", "f16", "bf16"})  # no kernel has to turn them into numbers first


def on_threads(a: Assignment) -> Attending:
    """The slower of K's and V's: one alone in f16 helps nothing."""
    return max((ON_THREADS.get(kind, ROW_BY_ROW) for kind in (a.type_k, a.type_v)), key=lambda slowest: slowest.prefill)


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


class Speed:
    """Predicted speed of one model on one machine: tokens/s and s of any assignment, from what the estimator places."""

    def __init__(
        self,
        facts: ModelFacts,
        hardware: Hardware,
        estimator: Estimator,
        *,
        keeps_checkpoints: bool = False,
        fitted: Rates = RATES,
    ) -> None:
        self.facts = facts
        self.fitted = fitted
        self.keeps_checkpoints = keeps_checkpoints
        self.hardware = hardware
        self.estimator = estimator
        second = estimator.drafter
        self.drafter = Speed(second.facts, hardware, second, fitted=fitted) if second is not None else None
        self.cards: tuple[Card, ...] = tuple(card_of(device) for device in hardware.devices)
        self._pageable = [fitted.pageable_gbps(card.link_gbps) * 1e9 for card in self.cards]
        self.ram_gbps = hardware.ram.bandwidth_gbps or ASSUMED_RAM_GBPS
        rate = next((g for flag, g in CORE_GFLOPS.items() if flag in hardware.cpu.flags), CPU_BASE_GFLOPS)
        cores = max(hardware.cpu.physical_cores, 1)
        self.cpu_gflops = rate * cores
        self.rates = cpu_rates(hardware.measured, fitted.ram_gbps(self.ram_gbps), self.cpu_gflops, cores)
        share = facts.expert_share
        self._attending = max(sum(b.k_width > 0 and not b.draft for b in facts.blocks), 1)
        bits = facts.size_bytes / facts.n_params if facts.n_params else 1.0
        self._flops_per_byte = 2.0 / bits if bits else 2.0
        self._active = [b.rest + b.dense + b.experts * share for b in facts.blocks]
        self._plain_flops = [(b.rest + b.dense) * self._flops_per_byte for b in facts.blocks]
        self._expert_flops = [b.experts * share * self._flops_per_byte for b in facts.blocks]
        self._attention = [4.0 * b.heads * (b.head_dim or 1) * (b.k_width > 0) for b in facts.blocks]  # for each cell
        self._state = facts.state_r + facts.state_s  # values of one recurrent block
        self._launch = [[self._launch_s(block, card) for card in self.cards] for block in facts.blocks]

    def _launch_s(self, block: BlockFacts, card: Card) -> float:
        """Fixed s of a block on a card in one pass."""
        fixed = self.fitted.layer_s + self.fitted.expert_s * (block.experts > 0)
        return (fixed + self.fitted.recurrent_s * (block.kind is BlockKind.RECURRENT)) * card.family.launch

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
        return a.swa_full or self.keeps_checkpoints or not self.facts.has_window

    def token_s(self, a: Assignment, depth: int) -> float:
        """Seconds per output token at `depth` tokens of context."""
        if not a.draft_max:
            return self._step_s(a, depth, 1)
        passes = self._step_s(a, depth, a.draft_max + 1)
        if a.drafter:
            return (passes + self._guessing_s(a, depth)) / _accepted(self.fitted.accept_drafter, a.draft_max)
        bandwidth = self.cards[0].bandwidth_gbps * self.fitted.gpu_read if self.cards else self.rates.read
        launch = 4 * self.fitted.layer_s * (self.cards[0].family.launch if self.cards else 1.0)
        draft = a.draft_max * (max(self._draft_bytes(), 1) / bandwidth / 1e9 + launch)
        return (passes + draft) / _accepted(self.fitted.accept, a.draft_max)

    def _guessing_s(self, a: Assignment, depth: int) -> float:
        """A pass for each guess, and one in which the second model reads what was checked (the `process` of each type
        in common/speculative.cpp)."""
        second = self._second()
        companion = second.facts.companion
        each = second.token_s(self._beside(a), depth)
        if companion is not None and companion.borrows_output:
            reads = self.cards[0].bandwidth_gbps * self.fitted.gpu_read if self.cards and a.ngl else self.rates.read
            each += self.facts.output_bytes / reads / 1e9
        return each * (2 if companion is not None and companion.one_pass else a.draft_max + 1)

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
        facts, n, fitted = self.facts, self.facts.n_layer_all, self.fitted
        start, ranges = self.estimator.ranges(a)
        widen = min(tokens, 1 / facts.expert_share) if facts.expert_share else 1.0
        widen = 1 + (widen - 1) * 0.85  # drafted tokens share some experts
        live = self._live(a, depth)
        seen = self._seen(a, depth)
        state = self._state_bytes(a)
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
            if block.kind is BlockKind.RECURRENT:
                cpu_bytes += 2 * state
            syncs += self.rates.fixed_s(block.experts > 0)
        for number, ((low, high), card) in enumerate(zip(ranges, self.cards, strict=True)):
            gpu, kv = 0.0, 0.0
            pageable = self._pageable[number]
            for il in range(low, min(high, n)):
                block = facts.blocks[il]
                if block.draft:
                    continue
                total += self._launch[il][number]
                expert = block.experts * facts.expert_share * widen
                gpu += block.rest
                if il < a.ncmoe and block.experts:
                    expert_bytes += expert
                    syncs += fitted.sync_s
                else:
                    gpu += expert
                if il < a.ncffn and block.dense:
                    cpu_bytes += block.dense
                    syncs += fitted.sync_s
                else:
                    gpu += block.dense
                if block.kind is BlockKind.RECURRENT and a.nkvo:
                    syncs += 2 * state / pageable + fitted.split_s
                if block.k_width and a.nkvo:
                    syncs += live / pageable + fitted.split_s
                if block.k_width:
                    kv += self._cache_s(a, block, card, 0.0 if a.nkvo else live, seen[block.kind])
            if high == n + 1 and low < high:
                gpu += facts.output_bytes
            checking = 1 + fitted.verify * (tokens - 1)  # mul_mat_vec_q computes each token anew (ggml-cuda/mmvq.cu)
            total += checking * gpu / (card.bandwidth_gbps * fitted.gpu_read * 1e9) + kv
        if start > n:
            cpu_bytes += facts.output_bytes
        else:
            switches = (start > 0) + max(len([r for r in ranges if r[0] < r[1]]) - 1, 0)
            syncs += fitted.split_s * switches
        rates = self.rates
        host_kv += passed / rates.cache_read + attended / rates.read
        cpu, experts = cpu_bytes / rates.read, expert_bytes / rates.expert_read
        if tokens > 1:  # several tokens at once: threads may be busy computing longer than reading
            cpu = max(cpu, tokens * cpu_bytes * self._flops_per_byte / rates.dense)
            experts = max(experts, tokens * expert_bytes / widen * self._flops_per_byte / rates.expert)
        return total + (cpu + experts + host_kv) / 1e9 + syncs

    def _cache_s(self, a: Assignment, block: BlockFacts, card: Card, live: float, cells: float) -> float:
        """Attention of one token to a block's cache on a card: the longer of reading it and of turning it into numbers.

        A quantised cache goes through the vector kernel in decode, once for each query head
        (ggml_cuda_get_best_fattn_kernel, ggml/src/ggml-cuda/fattn.cu); others are shared by the heads of a group.
        """
        read = live / (card.bandwidth_gbps * self.fitted.gpu_read * 1e9)
        if a.type_k in PLAIN_KV and a.type_v in PLAIN_KV:
            return read
        values = 2.0 * cells * block.heads * block.head_dim
        return max(read, values / (card.compute_tflops * card.family.vec * self.fitted.vec * 1e9))

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

    def _state_bytes(self, a: Assignment) -> float:
        """Of one recurrent block: F32, once more for each token that is guessed (a sibling never guesses for one)."""
        return 4.0 * self._state * (1 + a.draft_max)

    def prefill_s(self, a: Assignment, tokens: int, depth: int) -> float:
        """Seconds to read `tokens` new tokens when `depth` are in the cache; a second model reads them too."""
        if a.model_guesses:
            second = self._second().prefill_s(self._beside(a), tokens, depth)
            return second + self.prefill_s(replace(a, draft_max=0, drafter=False), tokens, depth)
        ubatch = max(min(a.ubatch, a.batch, tokens), 1)
        if not self.cards or (a.ngl == 0 and a.has_gpu):  # argv then says -dev none
            return self._cpu_prefill_s(a, tokens, depth)
        if ubatch < OFFLOAD_MIN_BATCH and (a.ngl <= self.facts.n_layer or a.ncmoe or a.ncffn):
            return tokens * self._step_s(a, depth + tokens // 2, ubatch) / ubatch
        return self._gpu_prefill_s(a, tokens, depth, ubatch)

    def _gpu_prefill_s(self, a: Assignment, tokens: int, depth: int, ubatch: int) -> float:
        facts, n, fitted = self.facts, self.facts.n_layer_all, self.fitted
        batches = -(-tokens // ubatch)
        start, ranges = self.estimator.ranges(a)
        few = facts.n_expert <= FEW_EXPERTS
        share = 1.0 if few else fitted.staged_experts
        used = 1.0 if few else 1 - (1 - facts.expert_share) ** ubatch
        compute, fixed = 0.0, 0.0  # s of a token, s of a ubatch
        owners = [0] * n
        for number, (low, high) in enumerate(ranges):
            owners[low : min(high, n)] = [number] * (min(high, n) - low)
        middle = depth + tokens / 2
        live = self._live(a, int(middle))
        seen = self._seen(a, middle)
        state = self._state_bytes(a)
        for il, block in enumerate(facts.blocks):
            if block.draft:
                continue
            card, pageable = self.cards[owners[il]], self._pageable[owners[il]]
            family, tflops = card.family, card.compute_tflops * 1e12
            weights = card.link_gbps * PINNED_LINK * 1e9 if a.load_mode == "none" else pageable
            on_host = il < start
            experts_on_host = on_host or il < a.ncmoe
            compute += self._plain_flops[il] / (tflops * family.dense * fitted.dense) + self._expert_flops[il] / (
                tflops * family.experts * fitted.experts
            )
            if block.k_width:
                compute += self._attention[il] * seen[block.kind] / (tflops * family.attention * fitted.attention)
            if block.kind is BlockKind.RECURRENT:
                compute += facts.state_s / 1e6 * fitted.scan_s * family.launch
            moved = 1.0 * (block.rest + block.dense) * on_host + block.dense * (not on_host and il < a.ncffn)
            moved += block.experts * share * experts_on_host
            if moved:
                fixed += moved / weights + fitted.sync_s
            if block.experts and not experts_on_host:  # each expert is read once for a few tokens
                fixed += block.experts * used / (card.bandwidth_gbps * fitted.gpu_read * 1e9)
            if on_host or a.nkvo:
                if block.kind is BlockKind.RECURRENT:
                    fixed += 2 * state / pageable
                if block.k_width:
                    fixed += live / pageable
        return tokens * compute + batches * fixed

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


def _accepted(each: float, guesses: int) -> float:
    """Tokens that a round yields: its own, and the guesses before the first wrong one."""
    return sum(each**n for n in range(guesses + 1))
