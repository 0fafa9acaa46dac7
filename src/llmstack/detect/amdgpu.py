"""AMD's cards as the kernel's amdgpu driver shows them in /sys, and what processes hold of them by /proc.

Files: Documentation/gpu/amdgpu/driver-misc.rst (mem_info_*) and gpu/drm-usage-stats.rst (fdinfo) of Linux.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from llmstack.detect.driver_cards import LANE_GBPS, DriverCard, DriverCards, GpuProcess
from llmstack.hardware import Device

MIB = 1 << 20
_VENDOR = "0x1002"
_GIGATRANSFERS = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
_FDINFO_MOST = 4096  # bytes of one file, and no more: other drivers write longer ones
_PART_MIB = 2048  # a processor's part has so little memory of its own, or less; its programs then use RAM (GTT)
MIN_GTT_SHARE = 4  # ... and RAM of at least so many times that size


def read(root: Path = Path("/")) -> DriverCards:
    """root: where /sys and /proc are looked up. Empty on a machine without such a card."""
    paths = sorted((root / "sys/class/drm").glob("card[0-9]*/device"), key=_slot)
    paths = [path for path in paths if _text(path / "vendor") == _VENDOR and _number(path / "mem_info_vram_total")]
    if not paths:
        return DriverCards()
    running = _processes(root / "proc")
    cards = tuple(DriverCard(_device(path), tuple(running.get(_slot(path), ()))) for path in paths)
    return DriverCards(cards, warnings=tuple(_locked(root)))


def _device(path: Path) -> Device:
    total, used = _number(path / "mem_info_vram_total") or 0, _number(path / "mem_info_vram_used") or 0
    gtt, gtt_used = _number(path / "mem_info_gtt_total") or 0, _number(path / "mem_info_gtt_used") or 0
    name = _text(path / "product_name") or f"AMD GPU {_slot(path)}"
    if total // MIB <= _PART_MIB and gtt >= MIN_GTT_SHARE * total:
        pool, free = total + gtt, max(total + gtt - used - gtt_used, 0)
        return Device(name, "Vulkan", pool // MIB, free // MIB, unified=True, integrated=True)
    return Device(name, "Vulkan", total // MIB, max(total - used, 0) // MIB, link_gbps=_link(path))


def _link(path: Path) -> float | None:
    """The widest link that card and slot agree on, GB/s in one direction."""
    speed = (_text(path / "max_link_speed").split() or [""])[0]
    lanes, per_lane = _number(path / "max_link_width"), LANE_GBPS.get(_GIGATRANSFERS.get(speed, 0))
    return round(per_lane * lanes, 1) if per_lane and lanes else None


def _slot(path: Path) -> str:
    """The PCI address, as fdinfo has it: 0000:03:00.0."""
    match = re.search(r"^PCI_SLOT_NAME=(\S+)$", _text(path / "uevent"), re.M)
    return match[1] if match else path.parent.name


def _processes(proc: Path) -> dict[str, list[GpuProcess]]:
    """By PCI address. Processes of other users cannot be read, and are left out."""
    held: dict[str, list[GpuProcess]] = {}
    for folder in proc.glob("[0-9]*"):
        clients: dict[tuple[str, str], int] = {}  # several descriptors are one client: its memory counts once
        for text in _descriptors(folder):
            fields = dict(re.findall(r"^(drm-[a-z-]+):\s*(\S+)", text, re.M))
            if fields.get("drm-driver") == "amdgpu":
                kib = int(fields.get("drm-memory-vram") or fields.get("drm-total-vram") or 0)
                clients[fields.get("drm-pdev", ""), fields.get("drm-client-id", "")] = kib
        for slot in {slot for slot, _ in clients}:
            mib = sum(kib for (where, _), kib in clients.items() if where == slot) >> 10
            held.setdefault(slot, []).append(GpuProcess(int(folder.name), mib))
    return held


def _descriptors(folder: Path) -> Iterator[str]:
    """Of the descriptors that are open on a graphics device."""
    with contextlib.suppress(OSError):
        for link in (folder / "fd").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if "/dri/" in str(link.readlink()):
                    with (folder / "fdinfo" / link.name).open(encoding="utf-8", errors="replace") as stream:
                        yield stream.read(_FDINFO_MOST)


def _locked(root: Path) -> Iterator[str]:
    nodes = [*(root / "dev/dri").glob("renderD*"), *(root / "dev").glob("kfd")]
    closed = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        names = ", ".join(f"/{node.relative_to(root)}" for node in closed)
        yield f"this user may not open {names}: sudo usermod -aG render,video $USER, then log in again"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None
