"""Detects the machine: GPUs through NVML, RAM through psutil and cgroups, the CPU through /proc/cpuinfo.

A missing or broken driver is a finding, not an error: the machine is then planned as CPU only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmstack.hardware import Cpu, Device, Hardware, Ram

MIB = 1 << 20
_CGROUP_UNLIMITED = 1 << 60  # cgroup v1 says "no limit" with a huge page-aligned number


@dataclass(frozen=True, slots=True)
class Detected:
    """The facts, and what a person should know about how they were found (a sentence each)."""

    hardware: Hardware
    warnings: tuple[str, ...] = ()


def detect() -> Detected:
    devices, warnings = nvidia_devices()
    return Detected(Hardware(ram=ram(), cpu=cpu(), devices=devices), warnings)


def nvidia_devices() -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """The cards NVML shows, in CUDA's order; empty with a reason when there is no usable driver.

    A card in MIG mode is listed by its instances, which is what CUDA can use.
    """
    try:
        import pynvml
    except ImportError:
        return (), ("the Python package nvidia-ml-py is missing, so no NVIDIA card can be seen",)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if isinstance(error, pynvml.NVMLError_LibraryNotFound) and not Path("/proc/driver/nvidia").exists():
            return (), ()  # no NVIDIA driver at all: an ordinary machine without such a card
        return (), (f"the NVIDIA driver does not answer ({error}): planned without a GPU; see llmstack doctor",)
    try:
        found: list[Device] = []
        warnings: list[str] = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                found += _cards(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
            except pynvml.NVMLError as error:
                warnings.append(f"GPU {index} cannot be read ({error}) and is left out")
        return tuple(found), tuple(warnings)
    finally:
        pynvml.nvmlShutdown()


def _cards(nvml: Any, handle: Any) -> list[Device]:
    try:
        mig, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:
        mig = 0
    if not mig:
        return [_device(nvml, handle, handle)]
    instances = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError:
            continue
        instances.append(_device(nvml, instance, handle))
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


def _memory_bandwidth(nvml: Any, card: Any) -> float | None:
    """bus width * memory clock * 2 (double data rate), GB/s."""
    try:
        bits = nvml.nvmlDeviceGetMemoryBusWidth(card)
        mhz = nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_MEM)
    except nvml.NVMLError:
        return None
    return round(bits / 8 * mhz * 2 / 1000, 1) if bits and mhz else None


# Usable GB/s of one PCIe lane by generation: transfer rate times line coding (PCI Express base specification).
_LANE_GBPS = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}


def _link_bandwidth(nvml: Any, card: Any) -> float | None:
    """The widest PCIe link that card and slot agree on, GB/s in one direction."""
    try:
        generation = nvml.nvmlDeviceGetMaxPcieLinkGeneration(card)
        lanes = nvml.nvmlDeviceGetMaxPcieLinkWidth(card)
    except nvml.NVMLError:
        return None
    per_lane = _LANE_GBPS.get(int(generation))
    return round(per_lane * lanes, 1) if per_lane and lanes else None


def ram() -> Ram:
    import psutil

    memory = psutil.virtual_memory()
    limit, used = cgroup_memory(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    available = memory.available
    if limit is not None and limit < memory.total:
        available = min(available, max(0, limit - used))
        return Ram(memory.total // MIB, available // MIB, limit_mib=limit // MIB)
    return Ram(memory.total // MIB, available // MIB)


def cgroup_memory(root: Path, membership: Path) -> tuple[int | None, int]:
    """The tightest memory limit above this process and what is used under it, in bytes; (None, 0) without one.

    cgroup v2 reads memory.max and memory.high from the own group up to the root, v1 memory.limit_in_bytes.
    Page cache (`inactive_file`) counts as free: the kernel gives it back under pressure.
    """
    best: tuple[int | None, int] = (None, 0)
    for folder in _groups(root, membership):
        for name, usage in (
            ("memory.max", "memory.current"),
            ("memory.high", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = _number(folder / name)
            if limit is None or limit >= _CGROUP_UNLIMITED or (best[0] is not None and limit >= best[0]):
                continue
            used = (_number(folder / usage) or 0) - _reclaimable(folder / "memory.stat")
            best = (limit, max(0, used))
    return best


def _groups(root: Path, membership: Path) -> list[Path]:
    """The folders of this process's groups and of all their parents."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    folders: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        base = root if controllers == "" else root / "memory" if "memory" in controllers.split(",") else None
        if base is None:
            continue
        own = base / path.lstrip("/")
        folders += [own, *(parent for parent in own.parents if parent.is_relative_to(base))]
    return folders or [root, root / "memory"]


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no number
        return None


def _reclaimable(path: Path) -> int:
    try:
        fields = dict(line.split() for line in path.read_text().splitlines())
        return int(fields.get("inactive_file", fields.get("total_inactive_file", 0)))
    except (OSError, ValueError):
        return 0


# What changes the speed of llama.cpp's CPU kernels (ggml/src/ggml-cpu/CMakeLists.txt, its CPU variants).
_INTERESTING = (
    "avx",
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "f16c",
    "fma",
)
_INTERESTING_ARM = ("asimd", "asimddp", "sve", "i8mm", "bf16")


def cpu() -> Cpu:
    import psutil

    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or logical
    return Cpu(min(physical, logical), logical, _flags())


def _flags() -> tuple[str, ...]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    present = set(line.partition(":")[2].split())
    return tuple(flag for flag in (*_INTERESTING, *_INTERESTING_ARM) if flag in present)
