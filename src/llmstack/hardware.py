"""What a machine has, as plain facts: the record that `doctor --hardware` prints and `plan --hardware` reads.

All sizes are MiB, bandwidths GB/s (10^9 bytes), compute TFLOP/s. `None` means unknown, never zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from llmstack.commands import command_line
from llmstack.errors import BadInput

DEVICE_ID = r"[A-Za-z][\w.:\[\]-]*"  # as -dev takes it: a comma separates two
# Beyond these a number is a slip of the pen, and what is computed of it overflows: 1 PiB, 1 MB/s, a data centre.
MOST_MIB = 1 << 30
LEAST_RATE, MOST_RATE = 0.001, 1e9
MOST_CORES = 1 << 16


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator as llama.cpp sees it; `backend` is `CUDA`, `Vulkan`, `ROCm`, `Metal`, `RPC`, …

    id: the engine's name for it, as `-dev` takes it (`CUDA0`); empty where no engine was asked. unified: its memory is
    the machine's RAM, so what it holds is counted once. integrated: a part of the processor.
    compute_capability: CUDA's, 8.6 of an RTX 3090.
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
    compute_capability: float | None = None


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
        hardware = msgspec.json.decode(data, type=Hardware)
        problem = next(_impossible(hardware), "")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = str(error)
    if problem:
        raise BadInput(
            f"this is not a hardware record: {problem}",
            next=f"{command_line('doctor', '--hardware')} > hardware.json   makes one on the machine it is about",
        )
    return hardware


def _impossible(hardware: Hardware) -> Iterator[str]:
    """What no machine has, by field: a plan made of it would be wrong without a word. People write records by hand."""
    seen: set[str] = set()
    for number, device in enumerate(hardware.devices):
        at = f"$.devices[{number}]"
        yield from _bad_sizes(at, {"total_mib": device.total_mib, "free_mib": device.free_mib})
        rates = {key: getattr(device, key) for key in ("bandwidth_gbps", "compute_tflops", "link_gbps")}
        yield from _bad_rates(at, rates)
        if not re.fullmatch(r"[A-Za-z][\w-]*", device.backend):
            yield f"Expected a backend such as CUDA or Vulkan - at `{at}.backend`"
        if device.id and (not re.fullmatch(DEVICE_ID, device.id) or device.id.lower() == "none" or device.id in seen):
            yield f"Expected a name of its own, as the engine lists it, such as CUDA0 - at `{at}.id`"
        seen.add(device.id)
    ram, cpu = hardware.ram, hardware.cpu
    yield from _bad_sizes(
        "$.ram",
        {"total_mib": ram.total_mib, "available_mib": ram.available_mib, "limit_mib": ram.limit_mib},
    )
    yield from _bad_rates("$.ram", {"bandwidth_gbps": ram.bandwidth_gbps})
    for key, count in (("physical_cores", cpu.physical_cores), ("logical_cores", cpu.logical_cores)):
        if not 1 <= count <= MOST_CORES:
            yield f"Expected 1 to {MOST_CORES} - at `$.cpu.{key}`"
    if hardware.measured is not None:
        measured = msgspec.to_builtins(hardware.measured)
        yield from _bad_rates(
            "$.measured", {k: v for k, v in measured.items() if k.endswith(("gbps", "flops", "gops"))}
        )


def _bad_sizes(at: str, sizes: dict[str, int | None]) -> Iterator[str]:
    for key, mib in sizes.items():
        if mib is not None and not 0 <= mib <= MOST_MIB:
            yield f"Expected 0 to {MOST_MIB} MiB - at `{at}.{key}`"


def _bad_rates(at: str, rates: dict[str, float | None]) -> Iterator[str]:
    for key, rate in rates.items():
        if rate is not None and not LEAST_RATE <= rate <= MOST_RATE:
            yield f"Expected {LEAST_RATE} to {MOST_RATE:.0f}, or nothing where it is unknown - at `{at}.{key}`"


def as_if(
    hardware: Hardware, *, cards: tuple[Device, ...] = (), vram_mib: int | None = None, ram_mib: int | None = None
) -> Hardware:
    """The same machine with these cards, with one GPU of so much memory (none for 0), or with so much RAM; MiB, None
    leaves it."""
    if cards:
        hardware = replace(hardware, devices=cards)
    elif vram_mib is not None:
        card = hardware.devices[0] if hardware.devices else Device("supposed GPU", "CUDA", vram_mib, vram_mib)
        card = replace(card, total_mib=vram_mib, free_mib=vram_mib, unified=False, integrated=False)
        devices = (card,) if vram_mib else ()
        hardware = replace(hardware, devices=devices)
    if ram_mib is not None:
        ram = replace(hardware.ram, total_mib=ram_mib, available_mib=ram_mib * 9 // 10, limit_mib=None)
        hardware = replace(hardware, ram=ram)
    return hardware
