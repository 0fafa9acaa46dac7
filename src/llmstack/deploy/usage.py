"""What the running services hold, and what the last bench measured: the figures beside the plan's in `status`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.detect import drivers
from llmstack.detect.driver_cards import held_mib
from llmstack.paths import Home

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Used:
    """MiB held by our services now; vram_mib is None without a card."""

    ram_mib: int | None = None
    vram_mib: int | None = None


def used(pids: Sequence[int]) -> Used:
    """Resident memory of these processes and their children, mapped model files included."""
    import psutil

    everyone: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    everyone[one.pid] = one.memory_info().rss
    if not everyone:
        return Used()
    return Used(sum(everyone.values()) // MIB, _vram(set(everyone)))


def _vram(pids: set[int]) -> int | None:
    """MiB on all cards together; None without a card whose driver tells."""
    cards = drivers.read().cards
    return sum(held_mib(card.processes, pids) or 0 for card in cards) if cards else None


def last_bench(home: Home) -> dict[str, Any]:
    """The last line of the bench history; empty when there is none."""
    try:
        with home.bench_history.open("rb") as stream:
            stream.seek(max(home.bench_history.stat().st_size - 65_536, 0))
            lines = stream.read().splitlines()
        run = msgspec.json.decode(lines[-1]) if lines else {}
    except (OSError, msgspec.DecodeError):
        return {}
    return run if isinstance(run, dict) else {}
