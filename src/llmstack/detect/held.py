"""How much memory of graphics cards a process holds, as the drivers tell it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from llmstack.detect import drivers
from llmstack.detect.driver_cards import held_mib


def family(pids: Collection[int]) -> set[int]:
    """These processes and all they started."""
    import psutil

    members = set(pids)
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            members |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return members


def vram_held_mib(pids: Collection[int]) -> int | None:
    """MiB of all cards together that these processes compute with; None where no driver tells it by process."""
    readings = [held_mib(card.processes, pids) for card in drivers.read().cards]
    known = [mib for mib in readings if mib is not None]
    return sum(known) if known else None
