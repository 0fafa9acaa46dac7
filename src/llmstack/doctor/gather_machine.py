"""Facts of the machine. Each function answers on any machine: what is absent or broken is a fact, not an error."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from llmstack import stackfile
from llmstack.deploy.machine import for_engine
from llmstack.detect import nvml
from llmstack.detect.driver_cards import DriverCards
from llmstack.detect.hardware import detect
from llmstack.detect.holders import program
from llmstack.doctor.facts import ClockFacts, DiskFacts, EngineFacts, GpuFacts, GpuHolder
from llmstack.engine.advisories import MIN_BUILD, open_in
from llmstack.errors import StackError
from llmstack.hardware import Hardware
from llmstack.paths import PACKAGE, Home

MIB = 1 << 20
_RPC_SERVERS = ("ggml-rpc-server", "rpc-server")  # the second is what builds before b9000 or so called it
_DRIVER_VERSION = re.compile(r"Kernel Module(?: for \S+)?\s+([0-9.]+)")
_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"


def engine(home: Home) -> EngineFacts:
    from llmstack.engine import find

    try:
        used = find.find(home)
    except StackError as error:
        return EngineFacts(minimum=MIN_BUILD, problem=f"{error.what}: {error.why}" if error.why else error.what,
                           remedy=error.next)  # fmt: skip
    refused = {e.name: e.refused for e in find.list_engines(home) if e.refused}
    return EngineFacts(
        used.name,
        used.version,
        used.build,
        MIN_BUILD,
        used.backends,
        refused=refused,
        fork=used.fork,
        advisories=open_in(used.build, rpc=_uses_rpc(home)),
    )


def _uses_rpc(home: Home) -> bool:
    """Whether the deployed engine computes on other machines, or this one lends itself to others."""
    import psutil

    record = stackfile.read(home)
    computes_elsewhere = record is not None and "--rpc" in record.server.argv
    names = (process.info["name"] for process in psutil.process_iter(["name"]))
    return computes_elsewhere or any(name in _RPC_SERVERS for name in names)


def hardware(home: Home) -> tuple[Hardware, tuple[str, ...]]:
    """With the devices that the engine in use lists, or those that the drivers know while there is none."""
    from llmstack.engine import find

    try:
        used = find.find(home)
    except StackError:
        used = None
    machine = for_engine(detect(), used)
    return machine.hardware, machine.warnings


def gpu(warnings: tuple[str, ...], ours: Collection[int], root: Path = Path("/")) -> GpuFacts:
    """root: where /proc, /sys and /dev are looked up."""
    cards = nvml.read()
    return GpuFacts(
        warnings=warnings,
        kernel_driver=kernel_driver(root),
        library=cards.driver,
        library_problem=cards.problem,
        pci_cards=pci_cards(root),
        driver_cards=len(cards.cards),
        uvm_node=(root / "dev/nvidia-uvm").exists(),
        holders=_holders(cards, ours),
    )


def kernel_driver(root: Path) -> str | None:
    """The version of the loaded NVIDIA module."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    match = _DRIVER_VERSION.search(text)
    return match[1] if match else None


def pci_cards(root: Path) -> int:
    """NVIDIA display controllers on the PCI bus, driver or not."""
    count = 0
    for device in (root / "sys/bus/pci/devices").glob("*"):
        with contextlib.suppress(OSError):
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
            count += vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASS)
    return count


def _holders(cards: DriverCards, ours: Collection[int]) -> tuple[GpuHolder, ...]:
    """Every process that holds memory of a card, with what it holds of all cards."""
    used: dict[int, int | None] = {}
    for process in (process for running in cards.processes for process in running):
        before = used.get(process.pid)
        used[process.pid] = before if process.used_mib is None else process.used_mib + (before or 0)
    return tuple(GpuHolder(pid, program(pid), mib, pid in ours) for pid, mib in sorted(used.items()))


def disks(home: Home) -> tuple[DiskFacts, ...]:
    """Free space once per file system that holds models, cache or state."""
    by_device: dict[int, DiskFacts] = {}
    for folder in (home.models, home.cache, home.state):
        place = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
        device = place.stat().st_dev
        by_device.setdefault(device, DiskFacts(str(folder), shutil.disk_usage(place).free // MIB))
    return tuple(by_device.values())


def clock() -> ClockFacts:
    newest = max((path.stat().st_mtime for path in PACKAGE.glob("*.py")), default=0.0)
    return ClockFacts(max(newest - time.time(), 0.0))


def user_id() -> int:
    return os.getuid()
