"""What a machine has, as plain facts: the record that `doctor --hardware` prints and `plan --hardware` reads.

All sizes are MiB, bandwidths GB/s (10^9 bytes), compute TFLOP/s. `None` means unknown, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from llmstack.commands import command_line
from llmstack.errors import BadInput


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator as llama.cpp sees it; `backend` is `CUDA`, `Vulkan`, `ROCm`, `Metal`, `RPC`, …

    id: the engine's name for it, as `-dev` takes it (`CUDA0`); empty where no engine was asked. unified: its memory is
    the machine's RAM, so what it holds is counted once. integrated: a part of the processor.
    """

    name: str
    backend: str
    total_mib: int
    free_mib: int
    bandwidth_gbps: float | None = None
    compute_tflops: float | None = None
    link_gbps: float | None = None
    id: str = ""
    unified: bool = False
    integrated: bool = False


@dataclass(frozen=True, slots=True)
class Ram:
    """Host memory; `limit_mib` is a cgroup's limit when one is lower than the machine's total."""

    total_mib: int
    available_mib: int
    limit_mib: int | None = None
    bandwidth_gbps: float | None = None


@dataclass(frozen=True, slots=True)
class Cpu:
    physical_cores: int
    logical_cores: int
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates that an engine reached on this machine; None where nothing was measured.

    read_gbps, expert_read_gbps: what threads reach while they read dense weights and experts (GB/s). cache_read_gbps:
    the same of an f16 cache, once for each query head, with plan.speed.CELL_VALUES for each cell. dense_gflops,
    expert_gflops, attention_gflops: prefill on the CPU; value_gops: 10^9 values/s between its matrix products.
    pass_s: fixed seconds of each block in each forward pass; expert_pass_s: more of one with experts (routing, and a
    short matrix for each expert). error: the share by which predictions missed what was measured.
    """

    read_gbps: float | None = None
    expert_read_gbps: float | None = None
    cache_read_gbps: float | None = None
    dense_gflops: float | None = None
    expert_gflops: float | None = None
    attention_gflops: float | None = None
    value_gops: float | None = None
    pass_s: float | None = None
    expert_pass_s: float | None = None
    error: float | None = None
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Hardware:
    ram: Ram
    cpu: Cpu
    devices: tuple[Device, ...] = field(default=())
    measured: Measured | None = None

    def to_json(self) -> dict[str, Any]:
        built: dict[str, Any] = msgspec.to_builtins(self)
        keys = ("devices", "ram", "cpu") if self.measured is None else ("devices", "ram", "cpu", "measured")
        return {key: built[key] for key in keys}


def from_json(data: bytes | str) -> Hardware:
    """Reads the record back. Raises BadInput that names the field."""
    try:
        return msgspec.json.decode(data, type=Hardware)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"this is not a hardware record: {error}",
            next=f"{command_line('doctor', '--hardware')} > hardware.json   makes one on the machine it is about",
        ) from None


def as_if(hardware: Hardware, *, vram_mib: int | None = None, ram_mib: int | None = None) -> Hardware:
    """The same machine with one GPU of so much memory (none for 0), or with so much RAM; MiB, None leaves it."""
    if vram_mib is not None:
        card = hardware.devices[0] if hardware.devices else Device("supposed GPU", "CUDA", vram_mib, vram_mib)
        card = replace(card, total_mib=vram_mib, free_mib=vram_mib, unified=False, integrated=False)
        devices = (card,) if vram_mib else ()
        hardware = replace(hardware, devices=devices)
    if ram_mib is not None:
        ram = replace(hardware.ram, total_mib=ram_mib, available_mib=ram_mib * 9 // 10, limit_mib=None)
        hardware = replace(hardware, ram=ram)
    return hardware
