"""Services that run other files of this package than are here: it was updated under them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmstack import __version__, started_from
from llmstack.commands import command_line
from llmstack.paths import Home
from llmstack.process.files import SupervisorFolder
from llmstack.supervisor import Service, ServiceStatus

_OURS = "llmstack"
SUPERVISOR = "supervisor"
SLACK_S = 2.0  # a file system's clock is not the process table's


@dataclass(frozen=True, slots=True)
class OutdatedService:
    """version: that it was started from; empty where it left no note of it."""

    name: str
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"service": self.name, "version": self.version or None, "here": __version__, "next": remedy((self,))}


def outdated(
    home: Home, services: Sequence[Service], running: Mapping[str, ServiceStatus], supervisor: str = ""
) -> tuple[OutdatedService, ...]:
    """services: as they are deployed; supervisor: its kind. Of a llama-server of its own nothing is ours to compare."""
    pids = {name: status.pid for name, status in running.items()}
    ours = [one.name for one in services if any(word.split(".")[0] == _OURS for word in one.argv[1:4])]
    every = [_looked_at(home.state, name, pids.get(name)) for name in ours]
    if supervisor == "process":
        every.append(outdated_supervisor(home))
    return tuple(one for one in every if one is not None)


def outdated_supervisor(home: Home) -> OutdatedService | None:
    """Our own, which lives on while its services are restarted."""
    folder = SupervisorFolder(home.state / "process", home.logs)
    return _looked_at(folder.state, SUPERVISOR, folder.supervisor_pid(), "process")


def _looked_at(folder: Path, name: str, pid: int | None, part: str = "") -> OutdatedService | None:
    """part: of the package, which is what it runs."""
    if not pid:
        return None
    note = started_from.read_note(folder, name)
    if note is not None and note.pid == pid:
        return None if note.is_now else OutdatedService(name, note.version)
    # Started by a llmstack that left no notes: files that were written since tell as much.
    began = _began(pid)
    is_newer = began is not None and started_from.newest_file(part) > began + SLACK_S
    return OutdatedService(name) if is_newer else None


def _began(pid: int) -> float | None:
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def sentence(services: Iterable[OutdatedService]) -> str:
    """What `status` and `doctor` say of them; empty for none."""
    every = tuple(services)
    if not every:
        return ""
    *others, last = (f"the {service.name}" for service in every)
    names = f"{', '.join(others)} and {last}" if others else last
    verb = "was" if len(every) == 1 else "were"
    versions = sorted({service.version for service in every if service.version} - {__version__})
    older = f"llmstack {', '.join(versions)}, and {__version__} is here" if versions else ""
    return f"{names} {verb} started from {older or 'files that have changed since'}"


def remedy(services: Iterable[OutdatedService]) -> str:
    """The model stays in memory where only the proxy is concerned."""
    names = [service.name for service in services]
    return command_line("restart", *names) if len(names) == 1 and names != [SUPERVISOR] else command_line("restart")
