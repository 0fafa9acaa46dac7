"""The caller's side of the process supervisor: write an order, signal, wait until it is obeyed."""

from __future__ import annotations

import heapq
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from llmstack.commands import command_line
from llmstack.errors import MissingPart, NotSo
from llmstack.paths import Home
from llmstack.process.files import (
    Actual,
    Order,
    OrderedService,
    SupervisorFolder,
    SupervisorReport,
    next_order,
    restarted,
)
from llmstack.process.logfile import Follower, read
from llmstack.supervisor import LogLine, Service, ServiceState, ServiceStatus

OBEY_S = 50.0  # stopping a draining proxy takes up to 35 s
MOST_SPAWNED = 3  # by one command: a supervisor that cannot start at all is not tried for ever
_POLL_S = 0.02


class ProcessSupervisor:
    """Implements `llmstack.supervisor.Supervisor` with one background process per home."""

    kind = "process"

    def __init__(self, home: Home) -> None:
        self._folder = SupervisorFolder(home.state / "process", home.logs)

    def apply(self, services: Sequence[Service]) -> tuple[str, ...]:
        before = self._folder.read_order()
        order = next_order(services, before)
        alive = self._folder.supervisor_pid() is not None
        unchanged = {service.name for service in before.services if service in order.services} if alive else set()
        self._command(order)
        return tuple(service.name for service in services if service.name not in unchanged)

    def restart(self, names: Sequence[str]) -> None:
        before = self._folder.read_order()
        deployed = [service.name for service in before.services]
        missing = [name for name in names if name not in deployed]
        if missing or not deployed:
            raise NotSo(f"there is no service {', '.join(missing) or 'to restart'}", next=command_line("up"))
        self._command(restarted(before, names))

    def stop(self) -> None:
        pid = self._folder.supervisor_pid()
        if pid is None:
            return
        _kill(pid, signal.SIGTERM)
        if not self._wait(lambda: self._folder.supervisor_pid() is None):
            _kill(pid, signal.SIGKILL)  # its services die with it
            self._wait(lambda: self._folder.supervisor_pid() is None)

    def remove(self) -> None:
        self.stop()
        for path in (self._folder.services, self._folder.status, self._folder.lock):
            path.unlink(missing_ok=True)

    def ordered(self) -> tuple[OrderedService, ...]:
        """The services as they were last asked for."""
        return self._folder.read_order().services

    def status(self) -> dict[str, ServiceStatus]:
        order = self._folder.read_order()
        report = self._folder.read_report() if self._folder.supervisor_pid() is not None else None
        actual = report.services if report else {}
        result = {}
        for service in order.services:
            entry = actual.get(service.name)
            if entry is None:
                result[service.name] = ServiceStatus(service.name, ServiceState.STOPPED)
                continue
            result[service.name] = status_of(service.name, entry, time.monotonic())
        return result

    def logs(self, names: Sequence[str], *, last: int | None, since_s: float | None) -> list[LogLine]:
        merged = heapq.merge(*(read(name, self._folder.log(name)) for name in names), key=lambda line: line.time_s)
        lines = [line for line in merged if since_s is None or line.time_s >= since_s]
        return lines if last is None else lines[len(lines) - min(last, len(lines)) :]

    def follow(self, names: Sequence[str]) -> Iterator[LogLine]:
        # Made here, not at the first line asked for: what comes in between must not be lost.
        return self._follow([Follower(name, self._folder.log(name)) for name in names])

    @staticmethod
    def _follow(followers: Sequence[Follower]) -> Iterator[LogLine]:
        try:
            while True:
                fresh = [line for follower in followers for line in follower.lines()]
                yield from sorted(fresh, key=lambda line: line.time_s)
                if not fresh:
                    time.sleep(0.1)
        finally:
            for follower in followers:
                follower.close()

    def _command(self, order: Order) -> None:
        """Has the order obeyed by the living supervisor, or by a new one.

        The living one may be on its way out: a `down` that was killed leaves it so."""
        self._folder.write_order(order)
        pid = self._folder.supervisor_pid()
        if pid is not None:
            _kill(pid, signal.SIGHUP)
        spawned: list[subprocess.Popen[bytes]] = []

        def obeyed() -> bool:
            is_starting = spawned and spawned[-1].poll() is None
            if len(spawned) < MOST_SPAWNED and not is_starting and self._folder.supervisor_pid() is None:
                spawned.append(self._spawn())
            report = self._folder.read_report()
            return report is not None and report.obeyed >= order.number and self._is_alive(report)

        if not self._wait(obeyed):
            raise MissingPart(
                "the background supervisor did not answer",
                why=f"its own log: {self._folder.log('supervisor')}",
                next=f"{command_line('down')} && {command_line('up')}",
            )

    def _is_alive(self, report: SupervisorReport) -> bool:
        return self._folder.supervisor_pid() == report.pid

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._folder.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        own_log = os.open(self._folder.log("supervisor"), flags, 0o600)
        with Path(os.devnull).open() as nothing, os.fdopen(own_log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "llmstack.process.daemon", str(self._folder.state), str(self._folder.logs)],
                stdin=nothing,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )

    @staticmethod
    def _wait(condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + OBEY_S
        while time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(_POLL_S)
        return condition()


def status_of(name: str, entry: Actual, now: float) -> ServiceStatus:
    """A service as its supervisor wrote it down, and as it is: a full disk may keep that a process ended from it."""
    uptime = max(0.0, now - entry.started) if entry.started is not None else None
    wait = max(0.0, entry.next_start - now) if entry.next_start is not None else None
    troubles = []
    if entry.faults:
        troubles.append(f"the supervisor failed {entry.faults} times over it")
    if entry.log_problem:
        troubles.append(f"its log cannot be written ({entry.log_problem}); {entry.lost_lines} lines are lost")
    state, pid, last_exit = entry.state, entry.pid, entry.last_exit
    if pid is not None and not _exists(pid):
        state, pid, uptime = ServiceState.BACKOFF, None, None
        last_exit = last_exit or "it ended"
        troubles.append("its supervisor could not write down yet that it ended")
    return ServiceStatus(name, state, pid, uptime, entry.restarts, last_exit, wait, "; ".join(troubles))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _kill(pid: int, number: signal.Signals) -> None:
    if pid > 0:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
