"""What the running services hold, and what the last bench measured: the figures beside the plan's in `status`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.paths import Home

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Used:
    """MiB held by our services now; vram_mib is None without an NVIDIA card."""

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
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver, no card: there is no figure
        return None
    try:
        total = 0
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid in pids and process.usedGpuMemory is not None:
                    total += int(process.usedGpuMemory)
        return total // MIB
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def last_bench(home: Home) -> dict[str, Any]:
    """The last line of the bench history; empty when there is none."""
    try:
        with home.bench_history.open("rb") as stream:
            stream.seek(max(home.bench_history.stat().st_size - 65_536, 0))
            lines = stream.read().splitlines()
        found = msgspec.json.decode(lines[-1]) if lines else {}
    except (OSError, msgspec.DecodeError):
        return {}
    return found if isinstance(found, dict) else {}
