"""What else the machine does while something is measured: processors used by others, and reads from disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable


class Watch:
    """The processors' use by others: all of it, less what the processes `pids` and this one used."""

    def __init__(self, pids: Iterable[int]) -> None:
        import psutil

        self._own = [psutil.Process()]
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                self._own.append(psutil.Process(pid))
        self._count = psutil.cpu_count() or 1
        self._disk = self._read_bytes()
        self._start = self._now()

    def _now(self) -> tuple[float, float, float]:
        import psutil

        times = psutil.cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0)
        busy -= getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user and nice already
        own = 0.0
        for process in self._own:
            with contextlib.suppress(psutil.Error):
                used = process.cpu_times()
                own += used.user + used.system
        return time.perf_counter(), busy, own

    def restart(self) -> None:
        self._start = self._now()

    def others(self) -> float:
        """The share of all processors that others used since the last restart, 0 to 1."""
        began, busy_then, own_then = self._start
        now, busy, own = self._now()
        wall = max(now - began, 1e-3) * self._count
        return min(max(((busy - busy_then) - (own - own_then)) / wall, 0.0), 1.0)

    def disk_mib(self) -> float:
        """MiB that the watched processes have had read from disk since the watch was made, page faults included."""
        return max(self._read_bytes() - self._disk, 0) / (1 << 20)

    def _read_bytes(self) -> int:
        total = 0
        for process in self._own:
            with contextlib.suppress(Exception):  # not every system counts, or lets itself be asked
                total += process.io_counters().read_bytes
        return total
