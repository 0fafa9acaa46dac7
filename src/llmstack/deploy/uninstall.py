"""`uninstall`: stops and removes everything, and says what it left and why."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmstack.commands import command_line
from llmstack.deploy.apply import deploy_lock
from llmstack.deploy.removal import LeftBehind, Removal
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.process import ProcessSupervisor
from llmstack.systemd import SystemdSupervisor, available


@dataclass(frozen=True, slots=True)
class Removed:
    """removed: folders and units that were there; freed_mib: their size. undone: files of others that were put back."""

    removed: tuple[str, ...]
    kept: tuple[LeftBehind, ...]
    freed_mib: int
    undone: tuple[str, ...] = ()


def uninstall(home: Home, *, keep_models: bool, take_out: Callable[[], Sequence[Path]] = tuple) -> Removed:
    """Ends both supervisors' services, removes units and folders. Nothing to remove is no error.

    A unit edited by hand is removed too: it was ours, and it would fail without us. Drop-ins are the user's.
    take_out: undoes what was written outside the folders, before the record of it goes, and says where; what it
    raises ends all.
    """
    _refuse_broad_home(home)
    undone = tuple(str(file) for file in take_out())
    remains: list[LeftBehind] = []
    if not _exists(home):
        return Removed(tuple(_remove_services(home, remains)), tuple(remains), 0, undone)
    size = sum(_size(folder) for folder in home.folders())
    keeps = keep_models and any(home.models.glob("*"))
    removal = Removal(home, home.models if keeps else None, remains)
    # The state last, and the lock in it at the very end: who waits for it begins when nothing is left to be removed.
    folders = [folder for folder in (home.config, home.data, home.cache, home.state) if os.path.lexists(folder)]
    with deploy_lock(home):
        removed = _remove_services(home, remains)
        for folder in folders:
            removal.remove(folder)
            removed.append(str(folder))
    for folder in folders:
        _remove_empty_parents(folder)
    if keeps:
        remains.append(LeftBehind(str(home.models), "--keep-models"))
    left = sum(_size(folder) for folder in home.folders())
    return Removed(tuple(removed), tuple(remains), (size - left) >> 20, undone)


def _refuse_broad_home(home: Home) -> None:
    """LLMSTACK_HOME=~ would make ~/data ours to delete."""
    root = os.environ.get("LLMSTACK_HOME")
    if root and Path.home().is_relative_to(Path(root).expanduser().absolute()):
        raise NotSo(
            f"LLMSTACK_HOME is {root}, which holds more than this stack",
            why=f"{', '.join(str(f) for f in home.folders())} may hold files of others",
            next=f"{command_line('down')}   then remove by hand what is llmstack's",
        )


def _exists(home: Home) -> bool:
    return any(folder.exists() for folder in home.folders())


def _remove_services(home: Home, remains: list[LeftBehind]) -> list[str]:
    """Both kinds: a stack may have moved from one supervisor to the other."""
    if (home.state / "process").exists():
        ProcessSupervisor(home).remove()
    units = SystemdSupervisor.of(home, force=True)
    names = list(units.installed())
    if not names:
        return []
    if not available():
        raise NotSo(
            f"the units {', '.join(names)} are installed, but no systemd user manager answers",
            why="without it the services cannot be stopped",
            next=f"log in as this user (not through su or sudo), then run {command_line('uninstall')} again",
        )
    remains += [LeftBehind(path, "a drop-in of yours") for path in units.drop_ins()]
    units.remove()
    return names


def _remove_empty_parents(folder: Path) -> None:
    """LLMSTACK_HOME itself, or empty XDG folders strictly below the user's home."""
    root = os.environ.get("LLMSTACK_HOME")
    stop = Path(root).expanduser().absolute().parent if root else Path.home()
    for parent in folder.parents:
        if parent == stop or not parent.is_relative_to(stop):
            return
        with contextlib.suppress(OSError):
            parent.rmdir()


def _size(folder: Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
