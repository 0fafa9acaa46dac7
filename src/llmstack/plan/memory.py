"""How much memory an assignment takes, per device and on the host, as llama.cpp build 11434 would report it.

Weights follow `load_tensors` (src/llama-model.cpp), the cache `llama_kv_cache` and `llama_kv_cache_iswa`, the
recurrent state `llama_memory_recurrent`; compute buffers are in plan.compute. All sizes are bytes inside,
MiB in `MemoryUse`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from llmstack.gguf import GgmlType, row_bytes
from llmstack.hardware import Device
from llmstack.plan.assignment import KV_TYPES, Assignment, draft_assignment
from llmstack.plan.compute import Layout, compute_of
from llmstack.plan.facts import BlockKind, ModelFacts
from llmstack.plan.graph import ContextShape
from llmstack.plan.projector import ProjectorFacts
from llmstack.plan.tensors import AMX_TYPES

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """MiB. other: what llama.cpp's report leaves out (driver context, scratch, prompt cache, process)."""

    weights: float
    context: float
    compute: float
    other: float

    @property
    def total(self) -> float:
        return self.weights + self.context + self.compute + self.other


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a plan takes. cache_ram, checkpoints of all slots: MiB of host.other; checkpoint: MiB of one of them."""

    devices: tuple[MemoryUse, ...]
    host: MemoryUse
    cache_ram: float
    checkpoint: float
    checkpoints: float


@dataclass(frozen=True, slots=True)
class Backend:
    """What a GPU backend takes outside llama.cpp's own report, MiB.

    context: the driver's context and the kernels' code, by the difference of free memory around a start
    (506 MiB on a 5090: github.com/ggml-org/llama.cpp/pull/25465; older cards take less, so this is an upper
    estimate). growth: at run time with a quantised cache (issue 23446).
    """

    context: int
    growth: int
    pads_rows: bool
    f16_scratch: bool
    pinned: bool


BACKENDS = {
    "CUDA": Backend(506, 50, True, True, True),
    "ROCm": Backend(450, 50, True, True, True),
    "Vulkan": Backend(200, 50, False, False, True),
    "SYCL": Backend(300, 50, False, False, True),
    "Metal": Backend(64, 32, False, False, False),
    "RPC": Backend(0, 0, False, False, False),
}
UNKNOWN_BACKEND = Backend(512, 50, True, True, True)
# ggml_repack_get_optimal_repack_type (ggml/src/ggml-cpu/repack.cpp): the CPU features that repack a type
_X86, _ARM = frozenset({"avx2"}), frozenset({"asimddp", "i8mm"})
REPACKS = {
    GgmlType.Q4_0: _X86 | _ARM,
    GgmlType.Q4_K: _X86 | _ARM,
    GgmlType.IQ4_NL: _X86 | _ARM,
    GgmlType.MXFP4: _X86 | _ARM,
    GgmlType.Q2_K: frozenset({"avx512f"}),
    GgmlType.Q5_K: _ARM,
    GgmlType.Q6_K: _ARM,
    GgmlType.Q8_0: _ARM,
}
NGRAM_MIB = 16  # 4 M entries for all slots (common_speculative_impl_ngram_mod, common/speculative.cpp)
HOST_PROCESS_MIB = 350  # llama-server with a driver loaded and a 250k vocabulary, resident, without buffers


def pad(value: int, to: int) -> int:
    return -(-value // to) * to


def context_shape(facts: ModelFacts, a: Assignment) -> ContextShape:
    """Cache cells and streams: llama_context's n_ctx_seq and llama_kv_cache_iswa's size_swa."""
    n_ctx = pad(a.ctx, 256)
    ubatch = min(a.ubatch, a.batch, n_ctx)
    streams = 1 if a.kv_unified else a.parallel
    per_stream = pad(n_ctx // streams, 256)
    window = pad(min(per_stream, facts.window * (a.parallel if a.kv_unified else 1) + ubatch), 256)
    return ContextShape(
        full=per_stream,
        window=per_stream if a.swa_full else window,
        streams=streams,
        ubatch=ubatch,
        sequences=a.parallel,
    )


def sharing(a: Assignment) -> int:
    """Conversations whose cells one token's attention passes over (get_n_kv: up to the last used cell)."""
    return a.parallel if a.kv_unified else 1


class Estimator:
    """Sums over blocks, prepared once for a model and a set of devices; `estimate` is called per candidate."""

    def __init__(
        self,
        facts: ModelFacts,
        devices: Sequence[Device],
        *,
        cpu_flags: Collection[str] = (),
        projector: ProjectorFacts | None = None,
        drafter: ModelFacts | None = None,
    ) -> None:
        self.facts = facts
        self.devices = tuple(devices)
        self.projector = projector
        self.drafter = Estimator(drafter, devices, cpu_flags=cpu_flags) if drafter is not None else None
        self._drafters: dict[Assignment, MemoryPlan] = {}
        self.backends = tuple(BACKENDS.get(device.backend, UNKNOWN_BACKEND) for device in devices)
        trunk = [not block.draft for block in facts.blocks]
        self._all = _sums(b.rest + b.experts + b.dense for b in facts.blocks)
        self._trunk = _sums((b.rest + b.experts + b.dense) * t for b, t in zip(facts.blocks, trunk, strict=True))
        self._movable = {
            drafting: (
                _sums(b.experts * (drafting or not b.draft) for b in facts.blocks),
                _sums(b.dense * (drafting or not b.draft) for b in facts.blocks),
            )
            for drafting in (False, True)  # a prediction block is loaded only when it is used
        }
        self._pad = _sums(b.pad for b in facts.blocks)
        # make_cpu_buft_list: a backend with pinned memory comes before the CPU's repacking buffers
        repacks = not any(backend.pinned for backend in self.backends)
        amx = repacks and "amx_int8" in cpu_flags
        self._amx = _sums((b.amx + b.amx_dense) * (amx and not b.draft) for b in facts.blocks)
        self._amx_dense = _sums(b.amx_dense * amx for b in facts.blocks)
        self._host_output = self._output_on_host(repacks, amx, cpu_flags)
        self._plain_output = self._output_on_host(False, False, cpu_flags)
        self.packs_latent = amx and facts.mla
        self._widths = {
            kind: (
                _sums(b.k_width * (b.cached and b.kind is kind and not b.draft) for b in facts.blocks),
                _sums(b.v_width * (b.cached and b.kind is kind and not b.draft) for b in facts.blocks),
            )
            for kind in (BlockKind.FULL, BlockKind.WINDOW)
        }
        self._draft_widths = (
            _sums(b.k_width * b.draft for b in facts.blocks),
            _sums(b.v_width * b.draft for b in facts.blocks),
        )
        self._recurrent = _sums(int(b.kind is BlockKind.RECURRENT) for b in facts.blocks)
        self._caches = {(b.kind, b.k_width, b.v_width) for b in facts.blocks if b.k_width}
        self.compute = compute_of(facts).for_planner()

    def ranges(self, a: Assignment) -> tuple[int, list[tuple[int, int]]]:
        """The first block on a GPU, and [start, end) of the layers of each device; the output is layer n."""
        n = self.facts.n_layer_all
        if not self.devices:
            return n + 1, []
        ngl = min(a.ngl, n + 1)
        start = max(n + 1 - ngl, 0)
        if not ngl:
            return n + 1, [(n + 1, n + 1)] * len(self.devices)
        shares = a.split or tuple(float(max(device.free_mib, 1)) for device in self.devices)
        total = sum(shares)
        bounds = list(accumulate(share / total for share in shares))
        if len(bounds) == 1:
            return start, [(start, n + 1)]
        owners = [min(bisect_right(bounds, (il - start) / ngl), len(bounds) - 1) for il in range(start, n + 1)]
        ranges, at = [], start
        for device in range(len(self.devices)):
            count = owners.count(device)
            ranges.append((at, at + count))
            at += count
        return start, ranges

    def estimate(self, a: Assignment) -> MemoryPlan:
        """Memory of one assignment. Blocks below the first GPU block and all inputs are on the host."""
        memory = self.estimate_within(a, None)
        assert memory is not None
        return memory

    def estimate_within(self, a: Assignment, limits: Sequence[float] | None) -> MemoryPlan | None:
        """None if a device's use is over its limit, MiB; a device's compute is rough where it is far from that."""
        if not a.model_guesses:
            return self._estimate_one_model(a, limits)
        second = self.estimate_draft_model(a)
        if limits is not None:
            drafter = [use.total - use.other for use in second.devices]
            limits = [mib - more for mib, more in zip(limits, drafter, strict=True)]
        memory = self._estimate_one_model(a, limits)
        if memory is None:
            return None
        devices = tuple(_with(use, more, 0.0) for use, more in zip(memory.devices, second.devices, strict=True))
        host = _with(memory.host, second.host, second.host.other - HOST_PROCESS_MIB)
        return replace(memory, devices=devices, host=host)

    def estimate_draft_model(self, a: Assignment) -> MemoryPlan:
        """What the draft model takes beside this assignment; its `other` is the process's, which is there once."""
        assert self.drafter is not None
        second = draft_assignment(a, layers=self.drafter.facts.n_layer_all + 1)
        if second not in self._drafters:
            self._drafters[second] = self._with_extracted(self.drafter.estimate(second), second)
        return self._drafters[second]

    def _with_extracted(self, memory: MemoryPlan, a: Assignment) -> MemoryPlan:
        """And what the large model's graph keeps for a companion, on the device that computes it and in RAM."""
        companion = self.drafter.facts.companion if self.drafter is not None else None
        if companion is None:
            return memory
        shape = context_shape(self.facts, a)
        here = MemoryUse(0, 0, companion.extracted_bytes(shape.ubatch) / MIB * bool(companion.reads), 0)
        devices = tuple(_with(use, here, 0.0) if use.total else use for use in memory.devices)
        host = companion.extracted_bytes(min(a.batch, a.ctx)) / MIB
        return replace(memory, devices=devices, host=_with(memory.host, MemoryUse(0, 0, 0, 0), host))

    def estimate_large_model(self, a: Assignment) -> MemoryPlan:
        """Without what guesses ahead from a file of its own."""
        memory = self._estimate_one_model(a, None)
        assert memory is not None
        return memory

    def _estimate_one_model(self, a: Assignment, limits: Sequence[float] | None) -> MemoryPlan | None:
        facts, n = self.facts, self.facts.n_layer_all
        weights = self._all if a.block_guesses else self._trunk
        start, ranges = self.ranges(a)
        shape = context_shape(facts, a)
        host_weights = facts.input_bytes + _between(weights, 0, min(start, n))
        host_context = self._context(a, shape, 0, min(start, n))
        if not a.no_repack:
            host_weights += _between(self._amx, 0, min(start, n))
        if start > n:
            host_weights += self._plain_output if a.no_repack else self._host_output
        devices = []
        used_devices = sum(low < high for low, high in ranges)
        for number, (low, high) in enumerate(ranges):
            backend = self.backends[number]
            used = _between(weights, low, min(high, n))
            experts, dense = self._movable[a.block_guesses > 0]
            moved = _between(experts, low, min(high, a.ncmoe, n)) if a.ncmoe > low else 0
            moved += _between(dense, low, min(high, a.ncffn, n)) if a.ncffn > low else 0
            used -= moved
            host_weights += moved
            if a.ncffn > low and not a.no_repack:
                host_weights += _between(self._amx_dense, low, min(high, a.ncffn, n))
            if low < high and high == n + 1:
                used += facts.output_bytes
            if backend.pads_rows and low < high:
                used += _between(self._pad, low, min(high, n)) + facts.output_pad * (high == n + 1)
            context = self._context(a, shape, low, min(high, n))
            if a.nkvo:
                host_context += context
                context = 0
            layout = Layout(
                low=low,
                high=min(high, n),
                has_output=low < high == n + 1,
                start=start,
                devices=used_devices,
            )
            other = self._other(a, shape, backend) if low < high else 0
            other += self._expert_cache(a, ranges, number) if low < high else 0
            if self.projector is not None and number == self.projector_device(ranges):
                other += self.projector.device_bytes(scratch=backend.f16_scratch)
            room = None if limits is None else limits[number] * MIB - used - context - other
            if room is not None and room < 0:
                return None
            compute = self.compute.device(a, shape, layout, staged=backend.pinned, room=room)
            compute += 4 * shape.ubatch * facts.companion.row if facts.companion is not None else 0
            if room is not None and compute > room:
                return None
            devices.append(MemoryUse(used / MIB, context / MIB, compute / MIB, other / MIB))
        compute = self.compute.host(a, shape, start, used_devices)
        each = self.checkpoint_bytes(a)
        checkpoints = each * a.checkpoints * a.parallel if (facts.recurrent or facts.has_window) else 0
        outputs = 4 * facts.n_vocab * a.parallel + 4 * facts.n_embd * a.batch * (a.block_guesses > 0)  # output_reserve
        other = (
            HOST_PROCESS_MIB * MIB + NGRAM_MIB * MIB * (a.ngram_max > 0) + outputs + a.cache_ram_mib * MIB + checkpoints
        )
        if self.projector is not None and self.projector_device(ranges) is None:
            other += self.projector.device_bytes(scratch=False)
        host = MemoryUse(host_weights / MIB, host_context / MIB, compute / MIB, other / MIB)
        return MemoryPlan(tuple(devices), host, float(a.cache_ram_mib), each / MIB, checkpoints / MIB)

    @staticmethod
    def projector_device(ranges: Sequence[tuple[int, int]]) -> int | None:
        """Which device computes the image encoder: the first one in use, as in `-dev`; None for the processor."""
        return next((number for number, (low, high) in enumerate(ranges) if low < high), None)

    def _output_on_host(self, repacks: bool, amx: bool, cpu_flags: Collection[str]) -> int:
        """The output's bytes without a GPU; a tied one is there twice when the CPU repacks it (MUL_MAT)."""
        facts = self.facts
        kind, rows = facts.output_types
        size = facts.output_bytes + (facts.output_amx if amx else 0)
        if not facts.tied:
            return size
        packed = amx and rows % 32 == 0 and kind in AMX_TYPES
        packed = packed or (repacks and rows % 8 == 0 and bool(REPACKS.get(kind, frozenset()) & set(cpu_flags)))
        return size if packed else facts.norm_bytes

    def _context(self, a: Assignment, shape: ContextShape, low: int, high: int) -> int:
        """Bytes of cache and recurrent state of the blocks [low, high)."""
        if high <= low:
            return 0
        kind_k, kind_v = KV_TYPES[a.type_k], KV_TYPES[a.type_v]
        total = 0
        for kind, count in ((BlockKind.FULL, shape.full), (BlockKind.WINDOW, shape.window)):
            k, v = (_between(sums, low, high) for sums in self._widths[kind])
            total += count * shape.streams * (_row(kind_k, k) + _row(kind_v, v))
        if a.block_guesses:
            k, v = (_between(sums, low, high) for sums in self._draft_widths)
            total += shape.full * shape.streams * 2 * (k + v)
        recurrent = _between(self._recurrent, low, high)
        per_sequence = 4 * (self.facts.state_r + self.facts.state_s)
        return total + recurrent * per_sequence * a.parallel * (1 + a.draft_max)

    def _other(self, a: Assignment, shape: ContextShape, backend: Backend) -> int:
        """Driver context, run-time growth, and CUDA's f16 copy of one layer's quantised cache.

        fattn-common.cuh (launch_fattn): K and V of the layer at hand are converted whole for the f16 kernels.
        """
        total = (backend.context + (backend.growth if a.type_k != "f16" else 0)) * MIB
        if not backend.f16_scratch or (a.type_k in ("f16", "bf16") and a.type_v in ("f16", "bf16")):
            return total
        worst = 0
        for kind, k_width, v_width in self._caches:
            count = shape.window if kind is BlockKind.WINDOW else shape.full
            worst = max(worst, count * shape.streams * 2 * (k_width + v_width))
        return total + worst

    def _expert_cache(self, a: Assignment, ranges: Sequence[tuple[int, int]], number: int) -> int:
        """The share of one device in `--moe-cache-mib`, which is divided as the layers are (llama-moe-cache.cpp).

        On top of all else, and only where experts are in RAM: without any there is nothing to cache.
        """
        if not a.moe_cache_mib or not (a.ncmoe or min(low for low, high in ranges if low < high)):
            return 0
        low, high = ranges[number]
        return a.moe_cache_mib * MIB * (high - low) // sum(high - low for low, high in ranges)

    def checkpoint_bytes(self, a: Assignment) -> int:
        """One context checkpoint of one slot: the recurrent state, or the cells within the window
        (server_context_impl::create_checkpoint, and llama_kv_cache::state_write, which leaves masked cells out)."""
        facts, shape = self.facts, context_shape(self.facts, a)
        n = facts.n_layer_all
        total = _between(self._recurrent, 0, n) * 4 * (facts.state_r + facts.state_s)
        if facts.has_window and not a.swa_full:
            k, v = (_between(sums, 0, n) for sums in self._widths[BlockKind.WINDOW])
            total += min(facts.window, shape.window) * (_row(KV_TYPES[a.type_k], k) + _row(KV_TYPES[a.type_v], v))
        return total

    def live_cache_bytes(self, a: Assignment, depth: int) -> int:
        """Bytes of cache that attention reads for one token at `depth`, all blocks."""
        facts, n, shape = self.facts, self.facts.n_layer_all, context_shape(self.facts, a)
        total, shared = 0, sharing(a)
        window = min(shape.window, facts.window * shared or shape.window)
        for kind, limit in ((BlockKind.FULL, shape.full), (BlockKind.WINDOW, window)):
            k, v = (_between(sums, 0, n) for sums in self._widths[kind])
            total += min(depth * shared, limit) * (_row(KV_TYPES[a.type_k], k) + _row(KV_TYPES[a.type_v], v))
        return total


def _with(use: MemoryUse, more: MemoryUse, other: float) -> MemoryUse:
    return MemoryUse(
        use.weights + more.weights, use.context + more.context, use.compute + more.compute, use.other + other
    )


def _sums(values: Iterable[int]) -> list[int]:
    return [0, *accumulate(values)]


def _between(sums: list[int], low: int, high: int) -> int:
    return sums[high] - sums[low] if high > low else 0


def _row(kind: GgmlType, width: int) -> int:
    return row_bytes(kind, pad(width, 32)) if width else 0
