"""Chooses who keeps the services running on this machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmstack import stackfile
from llmstack.errors import BadInput, MissingPart
from llmstack.paths import Home
from llmstack.process import ProcessSupervisor
from llmstack.supervisor import Service, Supervisor

if TYPE_CHECKING:
    from llmstack.units import UnitDiff

KINDS = ("systemd", "process")
VARIABLE = "LLMSTACK_SUPERVISOR"


def supervisor_for(home: Home) -> Supervisor:
    """The one that runs what is deployed; the one `up` would choose when nothing is."""
    stack = stackfile.read_alone(home) or stackfile.read(home)
    return of_kind(home, stack.supervisor) if stack is not None else chosen(home)


def chosen(home: Home, *, force: bool = False) -> Supervisor:
    """What `up` uses: LLMSTACK_SUPERVISOR, else systemd where a user manager answers, else our own.

    Raises BadInput for another word in the variable, MissingPart when it asks for systemd in vain.
    """
    from llmstack.systemd import unavailable_because

    kind = os.environ.get(VARIABLE, "")
    if kind not in ("", *KINDS):
        raise BadInput(f"{VARIABLE}={kind} is not one of {', '.join(KINDS)}")
    if kind == "process":
        return of_kind(home, "process")
    problem = unavailable_because()
    if problem is None:
        return of_kind(home, "systemd", force=force)
    if kind == "systemd":
        raise MissingPart("there is no systemd user manager here", why=problem, next=f"unset {VARIABLE}")
    return of_kind(home, "process")


def of_kind(home: Home, kind: str, *, force: bool = False) -> Supervisor:
    if kind == "process":
        return ProcessSupervisor(home)
    from llmstack.systemd import SystemdSupervisor

    return SystemdSupervisor.of(home, force=force)


def others(home: Home, supervisor: Supervisor) -> tuple[Supervisor, ...]:
    """The other supervisor, if it has services of this home: a stack can move from one to the other."""
    supervisors = []
    for kind in KINDS:
        if kind == supervisor.kind:
            continue
        other = of_kind(home, kind)
        try:
            if other.status():
                supervisors.append(other)
        except MissingPart:  # units without a manager that could run them
            continue
    return tuple(supervisors)


def notices(supervisor: Supervisor) -> tuple[str, ...]:
    """What the user should know after `apply`: what was left as it was, and what ends with the session."""
    from llmstack.systemd import SystemdSupervisor, linger, linger_command

    if not isinstance(supervisor, SystemdSupervisor):
        return ()
    if linger():
        return tuple(supervisor.notices)
    return (*supervisor.notices, f"the stack stops at your last logout and does not start at boot: {linger_command()}")


def keeps_edited(supervisor: Supervisor, service: str) -> bool:
    """Whether this service runs as the user edited its unit, and not as was planned."""
    from llmstack.systemd import SystemdSupervisor

    return isinstance(supervisor, SystemdSupervisor) and supervisor.keeps_edited(service)


def snapshot(supervisor: Supervisor) -> dict[str, str]:
    """The installed units by name; nothing where services are no files."""
    from llmstack.systemd import SystemdSupervisor

    return supervisor.installed() if isinstance(supervisor, SystemdSupervisor) else {}


def put_back(supervisor: Supervisor, services: Sequence[Service], units: Mapping[str, str], *, run: bool) -> None:
    """Services as they were before, and the very units of then, edits included."""
    from llmstack.systemd import SystemdSupervisor

    if isinstance(supervisor, SystemdSupervisor) and units:
        supervisor.restore(units, start=run)
    elif run:
        supervisor.apply(services)
    else:
        supervisor.stop()


def start_alone(supervisor: Supervisor, service: Service) -> None:
    """This service and no other. Units of the others stay where they are, an edited one as it was edited."""
    from llmstack.systemd import SystemdSupervisor

    if not isinstance(supervisor, SystemdSupervisor):
        supervisor.apply([service])
        return
    supervisor.restore({**supervisor.installed(), **supervisor.desired([service])}, start=False)
    supervisor.restart([service.name])


def preview(supervisor: Supervisor, services: Sequence[Service]) -> UnitDiff:
    """What `apply` would change, as `plan` shows it. Raises NotSo for a unit that is not ours in our place."""
    from llmstack.systemd import SystemdSupervisor
    from llmstack.units import diff, mark

    if isinstance(supervisor, SystemdSupervisor):
        return supervisor.diff(services)
    assert isinstance(supervisor, ProcessSupervisor)
    installed = {s.name: _listing(s.argv, s.env, s.working_directory) for s in supervisor.ordered()}
    desired = {s.name: _listing(s.argv, s.env, s.working_directory) for s in services}
    return diff({n: mark(t) for n, t in desired.items()}, {n: mark(t) for n, t in installed.items()})


def _listing(argv: Sequence[str], env: Mapping[str, str], folder: object) -> str:
    """One argument a line: what a service without a unit file is compared by."""
    lines = [shlex.quote(argument) for argument in argv]
    lines += [f"{name}={shlex.quote(value)}" for name, value in sorted(env.items())]
    return "\n".join([*lines, *([f"in {folder}"] if folder else [])])
