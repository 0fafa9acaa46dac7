"""What the supervisor and its callers share: one folder with a lock, the wanted services and their status.

lock            flock is held as long as the supervisor lives; holds its pid
services.json   wanted: written by callers, read by the supervisor on SIGHUP
status.json     actual: written by the supervisor at every change
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from llmstack.paths import write_private
from llmstack.supervisor import Service, ServiceState


class OrderedService(msgspec.Struct, frozen=True):
    """One service as asked for. `run` counts the requests to restart it: another number, another process."""

    name: str
    description: str
    argv: tuple[str, ...]
    env: dict[str, str] = {}
    working_directory: str | None = None
    run: int = 0
    notify: bool = False
    watchdog_s: float = 60.0


class Order(msgspec.Struct, frozen=True):
    """services.json; `number` grows by one with every change, and comes back in status.json once it is obeyed."""

    number: int
    services: tuple[OrderedService, ...] = ()


class Actual(msgspec.Struct, frozen=True):
    """One service as it is. started, next_start: seconds of CLOCK_MONOTONIC, which all processes of a machine share.

    faults: of the supervisor itself, over this service; lost_lines, log_problem: of its log.
    """

    state: ServiceState
    pid: int | None = None
    started: float | None = None
    restarts: int = 0
    last_exit: str | None = None
    next_start: float | None = None
    faults: int = 0
    lost_lines: int = 0
    log_problem: str = ""


class SupervisorReport(msgspec.Struct, frozen=True):
    """status.json."""

    pid: int
    obeyed: int
    services: Mapping[str, Actual] = {}


@dataclass(frozen=True, slots=True)
class SupervisorFolder:
    """The supervisor's folder and that of its logs."""

    state: Path
    logs: Path
    lock: Path = field(init=False)
    services: Path = field(init=False)
    status: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lock", self.state / "lock")
        object.__setattr__(self, "services", self.state / "services.json")
        object.__setattr__(self, "status", self.state / "status.json")

    def log(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    def read_order(self) -> Order:
        try:
            return msgspec.json.decode(self.services.read_bytes(), type=Order)
        except (FileNotFoundError, msgspec.DecodeError):
            return Order(0)

    def write_order(self, order: Order) -> None:
        write_private(self.services, msgspec.json.encode(order))

    def read_report(self) -> SupervisorReport | None:
        try:
            return msgspec.json.decode(self.status.read_bytes(), type=SupervisorReport)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write_report(self, report: SupervisorReport) -> None:
        write_private(self.status, msgspec.json.encode(report))

    def supervisor_pid(self) -> int | None:
        """The pid of the living supervisor; None when nobody holds the lock."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(descriptor, 32)
            return int(text) if text.strip().isdigit() else 0
        else:
            return None
        finally:
            os.close(descriptor)


def next_order(services: Sequence[Service], before: Order) -> Order:
    """The next order: these services; one that is unchanged keeps its run number, and so its process.

    One that changed gets another number, not only its other fields: a supervisor of an older llmstack, which is still
    alive after an update, does not know them all.
    """
    return Order(before.number + 1, tuple(_ordered(service, before) for service in services))


def _ordered(service: Service, before: Order) -> OrderedService:
    folder = str(service.working_directory) if service.working_directory else None
    old = next((one for one in before.services if one.name == service.name), None)
    ordered = OrderedService(
        service.name, service.description, service.argv, dict(service.env), folder,
        old.run if old is not None else 0, service.notify, service.watchdog_s,
    )  # fmt: skip
    return ordered if old in (None, ordered) else msgspec.structs.replace(ordered, run=ordered.run + 1)


def restarted(before: Order, names: Sequence[str]) -> Order:
    """The next order: the same services, those named with a new run number."""
    return Order(
        before.number + 1,
        tuple(
            msgspec.structs.replace(service, run=service.run + 1) if service.name in names else service
            for service in before.services
        ),
    )
