"""Which files of this package a service was started from, so that an update under a running stack is seen.

Each service of ours writes it down itself, at its start: at boot no command of ours runs. Its files are the modules
that it had loaded by then, so a change of a screen asks for no restart of the proxy. Nothing but the standard library
is needed here, or the embedded engine would load more than it runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmstack import __version__

PACKAGE = Path(__file__).resolve().parent
_LARGEST = 1 << 20  # bytes of a note


@dataclass(frozen=True, slots=True)
class StartedFrom:
    """files: below the package, or shipped beside it. digest: of their names and contents."""

    pid: int
    version: str
    digest: str
    files: tuple[str, ...]

    @property
    def is_now(self) -> bool:
        """Whether the same files are here still."""
        return digest_of(self.files) == self.digest


def loaded_files() -> tuple[str, ...]:
    """Of this process: its modules of this package."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = (Path(file) for file in files if file)
    return tuple(sorted({str(path.relative_to(PACKAGE)) for path in paths if path.is_relative_to(PACKAGE)}))


def digest_of(files: Sequence[str]) -> str:
    """One that is gone counts as that."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"\0{name}\0".encode())
        for base in (PACKAGE, PACKAGE.parent.parent):  # what is shipped stands beside the package in a checkout
            try:
                whole.update((base / name).read_bytes())
                break
            except OSError:
                continue
    return whole.hexdigest()


def newest_file(folder: str = "") -> float:
    """When the newest file of the package, or of a folder of it, was written: seconds since the epoch."""
    times = (path.stat().st_mtime for path in (PACKAGE / folder).rglob("*.py"))
    return max(times, default=0.0)


def note(folder: Path, service: str, shipped: Sequence[str] = (), *, only: str = "") -> None:
    """Called by the service, when it has loaded what it runs. folder: where its state is. only: files of that folder,
    of a service that has loaded others without depending on what is in them. A full disk costs the note."""
    files = (*(name for name in loaded_files() if name.startswith(only)), *shipped)
    note = {"pid": os.getpid(), "version": __version__, "digest": digest_of(files), "files": files}
    path = _path(folder, service)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(note, stream)
        temporary.replace(path)


def read_note(folder: Path, service: str) -> StartedFrom | None:
    """None where there is none that can be read: the service is older than these notes, or no program of ours."""
    try:
        with _path(folder, service).open("rb") as stream:
            fields: Any = json.loads(stream.read(_LARGEST))
        files = tuple(str(name) for name in fields["files"] if ".." not in Path(str(name)).parts)
        return StartedFrom(int(fields["pid"]), str(fields["version"]), str(fields["digest"]), files)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _path(folder: Path, service: str) -> Path:
    return folder / f"started-from-{service}.json"
