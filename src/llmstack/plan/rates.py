"""What speed is made of: shares that llama.cpp reaches of a machine's published figures, and fixed times.

Shares of a card's matrix units are in plan.cards, by generation. How they were found, and how far they are off on
machines that they were not fitted to: docs/planner.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.hardware import Measured

ASSUMED_RAM_GBPS = 50.0  # two channels of DDR4-3200
FEW_EXPERTS = 32  # up to here a ubatch uses them all
RESTORE_S = 0.5  # a snapshot read back after a restart, and the rest of the request
CORE_GFLOPS = {"amx_int8": 90.0, "avx512f": 50.0, "avx2": 32.0, "asimddp": 25.0}
CPU_BASE_GFLOPS = 8.0
CORE_CACHE_GBPS = 20.0  # a core's attention to an f16 cache in decode, with CELL_VALUES
CORES_TOGETHER = 0.85  # n cores are worth n ** this to attention: threads wait for the slowest of them
CELL_VALUES = 190  # in decode each cell of a head costs threads as much as so many values of K and V more
ROW_VALUES = 50  # the same in prefill
CORE_VALUES = 0.3  # 10^9 values/s a core passes between the matrix products: norms, activations, quantised inputs
PINNED_LINK = 0.80  # share of the link that copies from pinned memory reach
OFFLOAD_MIN_BATCH = 32  # GGML_OP_OFFLOAD_MIN_BATCH (ggml_backend_cuda_reg, ggml-cuda.cu): tokens of a ubatch


@dataclass(frozen=True, slots=True)
class Rates:
    """The constants that were fitted together. Times are s on an RTX 4090; a family's `launch` multiplies them.

    gpu_read: share of a card's bandwidth that matrix-vector kernels reach. layer_s, expert_s, recurrent_s: launches of
    a block, more for experts (routing, gathering), more for a recurrent state. scan_s: of a prefill, for each token and
    10^6 values of a recurrent state, which one kernel passes over token by token. ram_read, ram_full: threads read
    ram_read of the published bandwidth where it is little, and less the more there is: half of that share at ram_full
    GB/s. sync_s: of a block that is computed on both sides, two copies of activations and a wait. split_s: of a switch
    for whole blocks. pageable_link, staging_gbps: memory that is not pinned is first copied by a thread, and both take
    their time. staged_experts: of a block's expert bytes, what a ubatch really copies, as routing is uneven. accept,
    accept_drafter: of a prediction block's and of a second model's guesses, each. dense, experts, attention, vec: times
    of each family's figure, 1 once they are found. verify: what each guessed token adds to the time of a card's
    matrices.
    """

    gpu_read: float = 0.85
    layer_s: float = 20e-6
    expert_s: float = 30e-6
    recurrent_s: float = 40e-6
    scan_s: float = 1.0e-6
    ram_read: float = 0.85
    ram_full: float = 200.0
    sync_s: float = 0.18e-3
    split_s: float = 0.1e-3
    pageable_link: float = 0.56
    staging_gbps: float = 60.0
    staged_experts: float = 0.65
    accept: float = 0.70
    accept_drafter: float = 0.60
    dense: float = 1.0
    experts: float = 1.0
    attention: float = 1.0
    vec: float = 1.0
    verify: float = 0.10

    def pageable_gbps(self, link: float) -> float:
        return 1 / (1 / (self.pageable_link * link) + 1 / self.staging_gbps)

    def ram_gbps(self, published: float) -> float:
        return published * self.ram_read / (1 + published / self.ram_full)


RATES = Rates()


@dataclass(frozen=True, slots=True)
class Attending:
    """Attention on threads, in times of an f16 cache's: a prefill's, and a value's in decode (docs/planner.md)."""

    prefill: float
    value: float


IN_TILES = Attending(1.0, 1.0)  # ggml_compute_forward_flash_attn_ext_tiled (ggml/src/ggml-cpu/ops.cpp): f16 and f32
ROW_BY_ROW = Attending(10.0, 2.5)
ON_THREADS = {"f16": IN_TILES, "f32": IN_TILES, "q8_0": Attending(7.0, 1.5)}


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
        cache_read=m.cache_read_gbps or CORE_CACHE_GBPS * cores**CORES_TOGETHER,
        dense=dense,
        expert=m.expert_gflops or dense,
        attention=m.attention_gflops or dense / 2,
        values=m.value_gops or CORE_VALUES * cores,
        pass_s=m.pass_s or 0.0,
        expert_pass_s=m.expert_pass_s or 0.0,
    )
