"""Memory in use by the running stack, beside what the plan counted on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace

from llmstack.bench.record import MemoryRow
from llmstack.detect import drivers
from llmstack.plan.memory import MemoryUse
from llmstack.stackfile import StackRecord

MIB = 1 << 20


def memory_use(stack: StackRecord, pids: Sequence[int]) -> tuple[MemoryRow, ...]:
    """One row per device of the plan and one for RAM; what cannot be read is None."""
    plan = stack.plan
    if plan is None:
        return ()
    cards = drivers.beside(plan.hardware.devices, drivers.read().cards, os.environ)
    used = drivers.held_by_device(cards, pids)
    devices = zip(plan.hardware.devices, plan.memory.devices, plan.budget.devices, strict=True)
    made = [_row(device.name, use, budget, used[index]) for index, (device, use, budget) in enumerate(devices)]
    lazily = plan.memory.cache_ram + plan.memory.checkpoints  # they fill up with use only
    host = replace(plan.memory.host, other=max(plan.memory.host.other - lazily, 0))
    return (*made, _row("RAM", host, plan.budget.ram, ram_mib(pids)))


def _row(name: str, use: MemoryUse, budget: int, measured: float | None) -> MemoryRow:
    return MemoryRow(
        name, round(use.weights), round(use.context), round(use.compute), round(use.other), budget, measured
    )


def ram_mib(pids: Sequence[int]) -> float | None:
    """Resident MiB of the largest process, mapped weights included: the server."""
    import psutil

    sizes = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            sizes.append(psutil.Process(pid).memory_info().rss / MIB)
    return round(max(sizes)) if sizes else None
