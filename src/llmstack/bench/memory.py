"""Memory in use by the running stack, beside what the plan counted on."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from llmstack.bench.record import Memory
from llmstack.deploy.record import Stack

MIB = 1 << 20


def memory_use(stack: Stack, pids: Sequence[int]) -> tuple[Memory, ...]:
    """One row per device of the plan and one for RAM; what cannot be read is None."""
    planned = stack.plan.get("memory") or {}
    rows = list(planned.get("devices") or ())
    used = _gpu_mib(pids)
    made = [_row(row, used[index] if index < len(used) else None) for index, row in enumerate(rows)]
    if planned.get("host"):
        host = dict(planned["host"])
        lazily = (host.get("prompt_cache_mib") or 0) + (host.get("checkpoints_mib") or 0)
        host["other_mib"] = max((host.get("other_mib") or 0) - lazily, 0)  # caches fill up with use only
        made.append(_row(host, ram_mib(pids)))
    return tuple(made)


def _row(row: dict[str, Any], measured: float | None) -> Memory:
    def mib(part: str) -> float:
        return float(row.get(f"{part}_mib") or 0)

    name = str(row.get("name") or "RAM")
    return Memory(name, mib("weights"), mib("context"), mib("compute"), mib("other"), mib("budget"), measured)


def ram_mib(pids: Sequence[int]) -> float | None:
    """Resident MiB of the largest process, mapped weights included: the server."""
    import psutil

    sizes = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            sizes.append(psutil.Process(pid).memory_info().rss / MIB)
    return round(max(sizes)) if sizes else None


def _gpu_mib(pids: Sequence[int]) -> list[float | None]:
    """By card, what these processes hold there; empty without an NVIDIA driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver, no card: each has an error class of its own
        return []
    found: list[float | None] = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
            held = [p.usedGpuMemory for p in processes if p.pid in pids and p.usedGpuMemory]
            found.append(round(sum(held) / MIB) if held else None)
    except pynvml.NVMLError:
        return found
    finally:
        pynvml.nvmlShutdown()
    return found
