"""The local server while it runs: whether it still answers, and what becomes of it when it does not.

| what is seen                                                  | what happens                                      |
| ------------------------------------------------------------- | ------------------------------------------------- |
| /health is silent for SILENT_S, and the process does no work  | it hangs: it is ended, its supervisor starts it   |
| /health is silent for STUCK_S, whatever the process does      | likewise                                          |
| requests run, and /slots is silent for STUCK_S                | likewise: a call to the device that never returns |
| a long prompt is read                                         | nothing: both answer between two batches          |
| an `up` is at work                                            | nothing: it looks by itself                       |
| systemd has given it up                                       | started again after pauses that grow (REVIVE_S)   |
| it is down, and will be started                               | refusals say in how many seconds                  |

Our own supervisor starts what it gave up by itself (process/daemon.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from llmstack.catalog.routes import Target, resolve
from llmstack.errors import StackError
from llmstack.protocol.errors import Refused
from llmstack.proxy.report import error_location
from llmstack.proxy.upstreams import Upstreams
from llmstack.supervisor import ServiceState, ServiceStatus, Supervisor

LOOK_S = 5.0
PROBE_S = 5.0
SILENT_S = 20.0
STUCK_S = 600.0
WORK_S = 0.2  # CPU seconds between two looks that count as work
REVIVE_S = (30.0, 60.0, 120.0, 300.0)
STEADY_S = 60.0


class EngineCare:
    """hung: how often the server was ended. supervisor: of the local server. clock: seconds."""

    def __init__(
        self,
        upstreams: Upstreams,
        supervisor: Callable[[], Supervisor] | None,
        log_event: Callable[[str, dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hung = 0
        self._upstreams = upstreams
        self._supervisor = supervisor
        self._log_event = log_event
        self._clock = clock
        self._silent_since: float | None = None
        self._slots: asyncio.Task[None] | None = None  # the question to /slots that waits for its answer
        self._worked_at: float | None = None
        self._work: tuple[int, float] = (0, 0.0)
        self._answered_since: float | None = None
        self._revived = 0
        self._revive_at: float | None = None

    async def watch(self) -> None:
        """Runs beside the requests until it is cancelled. A fault in it is logged: the next look comes all the same."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                try:
                    await self.look()
                except Exception as error:
                    self._log_event("fault", {"error": type(error).__name__, "at": error_location(error)})
        finally:
            if self._slots is not None:
                self._slots.cancel()

    @property
    def is_silent(self) -> bool:
        return self._silent_since is not None

    async def look(self) -> None:
        target = self._local()
        if target is None or self._supervisor is None or self._upstreams.live.home.transaction.exists():
            self._silent_since = None
            return
        answer = await self._probe(target, "/health", PROBE_S)
        now = self._clock()
        if answer == "answers":
            await self._answering(target, now)
            return
        self._answered_since = None
        status = await asyncio.to_thread(self._status)
        if status is None:
            return
        if answer == "silent" and status.pid is not None:
            await self._silent(status.pid, now)
            return
        self._silent_since = None
        await self._down(status, now)

    async def _answering(self, target: Target, now: float) -> None:
        self._silent_since = None
        self._upstreams.starts_again_at = None
        self._answered_since = now if self._answered_since is None else self._answered_since
        if now - self._answered_since >= STEADY_S:
            self._revived = 0
        if self._upstreams.deaths.busy and (self._slots is None or self._slots.done()):
            self._slots = asyncio.get_running_loop().create_task(self._ask_slots(target))

    async def _ask_slots(self, target: Target) -> None:
        """One question, for as long as it takes: it is answered behind the batch that is being computed."""
        begun = self._clock()
        if await self._probe(target, "/slots", STUCK_S) == "silent" and self._silent_since is None:
            status = await asyncio.to_thread(self._status)
            if status is not None and status.pid is not None:
                self._end(status.pid, "its slots did not answer", self._clock() - begun)

    async def _silent(self, pid: int, now: float) -> None:
        if self._silent_since is None:
            self._silent_since = self._worked_at = now
            self._work = (pid, cpu_s(pid) or 0.0)
            return
        work = cpu_s(pid) or 0.0
        if self._work[0] != pid or work - self._work[1] >= WORK_S:
            self._work, self._worked_at = (pid, work), now
        assert self._worked_at is not None
        if now - self._worked_at >= SILENT_S or now - self._silent_since >= STUCK_S:
            self._end(pid, "it did not answer", now - self._silent_since)

    def _end(self, pid: int, why: str, silent_s: float) -> None:
        self.hung += 1
        self._silent_since = None
        self._upstreams.ended_at = self._clock()
        self._log_event("engine", {"result": "hung", "why": why, "silent_s": round(silent_s, 1), "pid": pid})
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)  # a stopped process takes no other signal; its supervisor starts it again

    async def _down(self, status: ServiceStatus, now: float) -> None:
        """Nobody listens: when will somebody?"""
        if status.next_start_s is not None:
            self._upstreams.starts_again_at = now + status.next_start_s
        elif status.state is ServiceState.FAILED:
            if self._revive_at is None:
                self._revive_at = now + REVIVE_S[min(self._revived, len(REVIVE_S) - 1)]
                self._log_event("engine", {"result": "given up", "again_in_s": round(self._revive_at - now)})
            self._upstreams.starts_again_at = self._revive_at
            if now >= self._revive_at:
                self._revive_at, self._revived = None, self._revived + 1
                await asyncio.to_thread(self._restart)
            return
        self._revive_at = None

    # ---- the outside ----------------------------------------------------------------------------------------------

    def _local(self) -> Target | None:
        settings = self._upstreams.live.routing.upstreams.get("local")
        if settings is None or settings.base_url is not None or self._upstreams.live.server is None:
            return None
        return resolve("local", settings, None)

    async def _probe(self, target: Target, path: str, within_s: float) -> str:
        """answers (whatever), silent (connected, or the backlog is full, and no word), or refused."""
        upstreams = self._upstreams
        try:
            url, headers = upstreams.address(target) + path, upstreams.headers(target)
            timeout = aiohttp.ClientTimeout(total=within_s)
            async with upstreams.session().get(url, headers=headers, timeout=timeout, allow_redirects=False):
                return "answers"
        except TimeoutError:
            return "silent"
        except (aiohttp.ClientError, OSError, Refused):
            return "refused"

    def _status(self) -> ServiceStatus | None:
        assert self._supervisor is not None
        try:
            return self._supervisor().status().get("server")
        except (StackError, OSError):
            return None

    def _restart(self) -> None:
        assert self._supervisor is not None
        try:
            self._supervisor().restart(("server",))
        except (StackError, OSError) as error:
            self._log_event("engine", {"result": "could not be started", "why": str(error)[:300]})


def cpu_s(pid: int) -> float | None:
    """User and system time of a process and all its threads (proc(5), stat: utime, stime)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
