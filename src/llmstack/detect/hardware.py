"""Detects the machine: GPUs through their drivers, RAM through psutil and cgroups, the CPU through /proc/cpuinfo.

A missing or broken driver is a finding, not an error: the machine is then planned as CPU only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from llmstack.detect import drivers
from llmstack.detect.driver_cards import DriverCard
from llmstack.hardware import Cpu, Device, Hardware, Ram

MIB = 1 << 20
_CGROUP_UNLIMITED = 1 << 60  # cgroup v1 says "no limit" with a huge page-aligned number


@dataclass(frozen=True, slots=True)
class Detected:
    """The facts, and what a person should know about how they came (a sentence each).

    cards: the driver's own of each device, in the devices' order; None where no driver knows it. spare: devices that
    are used only when somebody names them. unused: names of cards that the engine is built without.
    """

    hardware: Hardware
    warnings: tuple[str, ...] = ()
    cards: tuple[DriverCard | None, ...] = ()
    spare: tuple[Device, ...] = ()
    unused: tuple[str, ...] = ()


def detect() -> Detected:
    """The machine as its drivers see it; what of that an engine can use is for the engine to say."""
    drivers_cards = drivers.read()
    hardware = Hardware(ram=ram(), cpu=cpu(), devices=drivers_cards.devices)
    return Detected(hardware, drivers_cards.warnings, drivers_cards.cards)


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
