"""What a process does to the disk, seen by audit events; the N-th of it fails, or is the last thing it does."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED_BEFORE, KILLED_AFTER, FULL, DENIED, BROKEN = "killed before", "killed after", "ENOSPC", "EACCES", "EIO"
OUTCOMES = (KILLED_BEFORE, KILLED_AFTER, FULL, DENIED, BROKEN)
_ERRORS = {FULL: errno.ENOSPC, DENIED: errno.EACCES, BROKEN: errno.EIO}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ON_PATHS = {
    "os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
}  # fmt: skip


class Effects:
    """below: what counts lies below this folder. number: of the step that meets the outcome; 0: of none.

    labels go to `record`, one a line: what a run without a fault does, in its order.
    """

    def __init__(self, below: Path, number: int, outcome: str, record: Path) -> None:
        self._below, self._number, self._outcome, self._record = f"{below}/", number, outcome, record
        self._count = 0
        self._busy = False
        self._dying = False

    def install(self) -> None:
        """For the rest of this process: an audit hook cannot be taken out again."""
        fsync: Callable[[int], None] = os.fsync

        def watched(descriptor: int) -> None:
            self._step("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
            fsync(descriptor)

        os.fsync = watched  # type: ignore[assignment]
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._busy:
            return
        if self._dying:
            os.kill(os.getpid(), signal.SIGKILL)
        if event == "open" and isinstance(arguments[0], str | bytes) and arguments[2] & _WRITES:
            self._step("write", os.fsdecode(arguments[0]))
        elif event in _ON_PATHS:
            paths = [os.fsdecode(path) for path in arguments[: _ON_PATHS[event]] if isinstance(path, str | bytes)]
            if paths and not (event == "os.mkdir" and os.path.isdir(paths[0])):  # noqa: PTH112
                self._step(event.removeprefix("os."), paths[-1])

    def _step(self, verb: str, path: str) -> None:
        if self._dying:
            os.kill(os.getpid(), signal.SIGKILL)
        path = os.path.abspath(path)  # noqa: PTH100
        if not path.startswith(self._below):
            return
        self._busy = True
        try:
            self._count += 1
            if not self._number:
                with self._record.open("a") as stream:
                    stream.write(f"{verb} {path.removeprefix(self._below)}\n")
            if self._count != self._number:
                return
            if self._outcome == KILLED_BEFORE:
                os.kill(os.getpid(), signal.SIGKILL)
            if self._outcome == KILLED_AFTER:
                self._dying = True  # whatever comes next is too late
                return
        finally:
            self._busy = False
        number = _ERRORS[self._outcome]
        raise OSError(number, os.strerror(number), path)
