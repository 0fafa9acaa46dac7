"""The one reader of NVML: NVIDIA's cards as CUDA lists them, and which process holds how much of each.

A missing or broken driver is a finding, not an error. Function names: nvml.h of the CUDA toolkit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmstack.commands import command_line
from llmstack.hardware import Device

MIB = 1 << 20
# Usable GB/s of one PCIe lane by generation: transfer rate times line coding (PCI Express base specification).
_LANE_GBPS = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """used_mib: None where the driver does not say (WSL, some virtual GPUs). computes: by CUDA, not for a screen."""

    pid: int
    used_mib: int | None
    computes: bool = True


@dataclass(frozen=True, slots=True)
class NvidiaCards:
    """devices in CUDA's order, a card in MIG mode as its instances; processes: of each device, in the same order.

    driver: its version. problem: why NVML does not answer, empty where there is no NVIDIA driver. warnings: a sentence
    each, for a person whose plan lacks a card.
    """

    devices: tuple[Device, ...] = ()
    processes: tuple[tuple[GpuProcess, ...], ...] = ()
    driver: str | None = None
    problem: str = ""
    warnings: tuple[str, ...] = ()


def held_mib(processes: Collection[GpuProcess], pids: Collection[int]) -> int | None:
    """MiB of one device that these processes compute with; None when it has none of them, or does not say."""
    used = [p.used_mib for p in processes if p.computes and p.pid in pids and p.used_mib is not None]
    return sum(used) if used else None


def read() -> NvidiaCards:
    try:
        import pynvml
    except ImportError:
        return NvidiaCards(warnings=("the Python package nvidia-ml-py is missing, so no NVIDIA card can be seen",))
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        is_absent = isinstance(error, pynvml.NVMLError_LibraryNotFound)
        if is_absent and not Path("/proc/driver/nvidia").exists():
            return NvidiaCards()  # no NVIDIA driver at all: an ordinary machine without such a card
        warning = f"the NVIDIA driver does not answer ({error}): planned without a GPU; see {command_line('doctor')}"
        return NvidiaCards(problem="" if is_absent else str(error), warnings=(warning,))
    try:
        return _cards(pynvml)
    except pynvml.NVMLError as error:
        return NvidiaCards(problem=str(error), warnings=(f"the NVIDIA cards cannot be read ({error})",))
    finally:
        pynvml.nvmlShutdown()


def _cards(nvml: Any) -> NvidiaCards:
    devices: list[Device] = []
    processes: list[tuple[GpuProcess, ...]] = []
    warnings: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            card = nvml.nvmlDeviceGetHandleByIndex(index)
            listed = [(_device(nvml, handle, card), _processes(nvml, handle)) for handle in _instances(nvml, card)]
        except nvml.NVMLError as error:
            warnings.append(f"GPU {index} cannot be read ({error}) and is left out")
            continue
        devices += [device for device, _ in listed]
        processes += [running for _, running in listed]
    return NvidiaCards(tuple(devices), tuple(processes), _driver(nvml), warnings=tuple(warnings))


def _driver(nvml: Any) -> str | None:
    try:
        version = nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)


def _instances(nvml: Any, card: Any) -> list[Any]:
    """What CUDA can use of a card: itself, or in MIG mode its instances."""
    try:
        mig, _ = nvml.nvmlDeviceGetMigMode(card)
    except nvml.NVMLError:
        mig = 0
    if not mig:
        return [card]
    instances = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            instances.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, number))
        except nvml.NVMLError:
            continue
    return instances


def _device(nvml: Any, handle: Any, card: Any) -> Device:
    name = nvml.nvmlDeviceGetName(handle)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Device(
        name=name.decode() if isinstance(name, bytes) else str(name),
        backend="CUDA",
        total_mib=int(memory.total) // MIB,
        free_mib=int(memory.free) // MIB,
        bandwidth_gbps=_memory_bandwidth(nvml, card),
        link_gbps=_link_bandwidth(nvml, card),
    )


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
    """Empty where the driver is too old to say, or refuses."""
    running: list[GpuProcess] = []
    for ask, computes in ((nvml.nvmlDeviceGetComputeRunningProcesses, True),
                          (nvml.nvmlDeviceGetGraphicsRunningProcesses, False)):  # fmt: skip
        try:
            for process in ask(handle):
                used = process.usedGpuMemory
                running.append(GpuProcess(int(process.pid), None if used is None else int(used) // MIB, computes))
        except nvml.NVMLError:
            continue
    return tuple(running)


def _memory_bandwidth(nvml: Any, card: Any) -> float | None:
    """bus width * memory clock * 2 (double data rate), GB/s."""
    try:
        bits = nvml.nvmlDeviceGetMemoryBusWidth(card)
        mhz = nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_MEM)
    except nvml.NVMLError:
        return None
    return round(bits / 8 * mhz * 2 / 1000, 1) if bits and mhz else None


def _link_bandwidth(nvml: Any, card: Any) -> float | None:
    """The widest PCIe link that card and slot agree on, GB/s in one direction."""
    try:
        generation = nvml.nvmlDeviceGetMaxPcieLinkGeneration(card)
        lanes = nvml.nvmlDeviceGetMaxPcieLinkWidth(card)
    except nvml.NVMLError:
        return None
    per_lane = _LANE_GBPS.get(int(generation))
    return round(per_lane * lanes, 1) if per_lane and lanes else None
