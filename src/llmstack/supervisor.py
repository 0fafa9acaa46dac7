"""What keeps the two services running, as one interface with two implementations.

`systemd` (user units) where a user manager answers, `process` (our own small supervisor) elsewhere.
Nothing above this floor knows which one it talks to.

| state    | meaning                                                        |
| -------- | -------------------------------------------------------------- |
| starting | a process exists or is about to; readiness is the caller's HTTP check |
| running  | a process exists                                               |
| backoff  | it died and is started again after a pause                     |
| failed   | it died too often in a row, or could not be started: it is tried again after long pauses |
| stopped  | nobody wants it to run                                         |
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Service:
    """One program to keep running. `name` is `server` or `proxy`; argv[0] is an absolute path.

    env is added to the supervisor's own; it never holds a secret (secrets are files).
    memory_max_mib: the hard limit of its RAM from the plan, None for no limit.
    """

    name: str
    description: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    working_directory: Path | None = None
    memory_max_mib: int | None = None
    notify: bool = False  # it speaks sd_notify (READY=1, WATCHDOG=1)
    watchdog_s: float = 60.0  # between two of its signs, before it is ended


class ServiceState(enum.StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """restarts counts deaths since the service was last started on request; last_exit says how it last died.

    next_start_s: seconds until it is started again. trouble: what the supervisor itself cannot do for it, in words.
    """

    name: str
    state: ServiceState
    pid: int | None = None
    uptime_s: float | None = None
    restarts: int = 0
    last_exit: str | None = None
    next_start_s: float | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """time_s: seconds since the epoch; service: `server`, `proxy` or `supervisor`; text without its newline."""

    time_s: float
    service: str
    text: str


class Supervisor(Protocol):
    kind: str  # "systemd" or "process"

    def apply(self, services: Sequence[Service]) -> tuple[str, ...]:
        """Makes exactly these services run; restarts only what changed. Returns the names (re)started."""
        ...

    def restart(self, names: Sequence[str]) -> None:
        """Restarts services that were applied before. Raises NotSo when there are none."""
        ...

    def stop(self) -> None:
        """Stops everything and returns when no process is left. Nothing to stop is no error."""
        ...

    def remove(self) -> None:
        """Stops, then removes what `apply` wrote, except logs."""
        ...

    def status(self) -> dict[str, ServiceStatus]:
        """By service name; empty when nothing was ever applied."""
        ...

    def logs(self, names: Sequence[str], *, last: int | None, since_s: float | None) -> list[LogLine]:
        """Lines in the order of time: the last `last` of them, or all since `since_s` (epoch seconds)."""
        ...

    def follow(self, names: Sequence[str]) -> Iterator[LogLine]:
        """New lines as they come, until the caller stops iterating."""
        ...
