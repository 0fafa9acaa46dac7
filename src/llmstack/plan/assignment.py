"""One complete choice of llama-server's flags that matter to memory and speed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmstack.gguf import GgmlType

KV_TYPES: dict[str, GgmlType] = {
    "f32": GgmlType.F32,
    "f16": GgmlType.F16,
    "bf16": GgmlType.BF16,
    "q8_0": GgmlType.Q8_0,
    "q5_1": GgmlType.Q5_1,
    "q5_0": GgmlType.Q5_0,
    "q4_1": GgmlType.Q4_1,
    "q4_0": GgmlType.Q4_0,
    "iq4_nl": GgmlType.IQ4_NL,
}


@dataclass(frozen=True, slots=True)
class Assignment:
    """ngl counts as llama.cpp does: the output is the first layer, then the blocks from the last one.

    split: the share of each device (-ts), empty for one device. draft_max: tokens guessed by the model's own
    prediction block, 0 for none. has_gpu: the machine has a device, so that ngl = 0 must also switch it off.
    no_repack: weights in RAM stay as they are. cache_ram_mib and checkpoints are host memory outside llama.cpp's
    own report.
    """

    ctx: int
    ngl: int
    ncmoe: int = 0
    ncffn: int = 0
    nkvo: bool = False
    type_k: str = "q4_0"
    type_v: str = "q4_0"
    parallel: int = 1
    kv_unified: bool = False
    batch: int = 2048
    ubatch: int = 512
    load_mode: str = "mmap"
    cache_ram_mib: int = 0
    checkpoints: int = 0
    swa_full: bool = False
    draft_max: int = 0
    split: tuple[float, ...] = ()
    threads: int = 0
    has_gpu: bool = False
    no_repack: bool = False


def on_cpu(a: Assignment, *, moe: bool, blocks: int) -> Assignment:
    """The same with the experts (or, without experts, the feed-forward weights) of the first blocks in RAM."""
    return replace(a, ncmoe=blocks) if moe else replace(a, ncffn=blocks)
