"""Log files that systemd appends to where no journald can be used (fault 27).

The lines are the services' own bytes: systemd adds no time, so a stored line carries the time its file was
last written and a followed one the time it was seen. Files are rotated when a service starts: `append:`
opens them anew then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from llmstack.supervisor import LogLine

ROTATE_BYTES = 10 * 1024 * 1024
GENERATIONS = 3
_POLL_S = 0.2


def path(folder: Path, name: str) -> Path:
    return folder / f"{name}.log"


def rotate(folder: Path, name: str, *, limit: int = ROTATE_BYTES) -> bool:
    """NAME.log becomes NAME.log.1 and so on, once it is larger than `limit` bytes."""
    current = path(folder, name)
    if not current.exists() or current.stat().st_size <= limit:
        return False
    for number in range(GENERATIONS, 0, -1):
        older = current if number == 1 else path(folder, name).with_suffix(f".log.{number - 1}")
        if older.exists():
            older.replace(current.with_suffix(f".log.{number}"))
    return True


def read(folder: Path, names: Sequence[str], *, last: int | None, since_s: float | None) -> list[LogLine]:
    lines: list[LogLine] = []
    for name in names:
        generations = [path(folder, name).with_suffix(f".log.{n}") for n in range(GENERATIONS, 0, -1)]
        for file in (*generations, path(folder, name)):
            if not file.exists() or (since_s is not None and file.stat().st_mtime < since_s):
                continue
            stamp = file.stat().st_mtime
            text = file.read_bytes().decode("utf-8", "replace")
            lines += [LogLine(stamp, name, line) for line in text.split("\n") if line]
    lines.sort(key=lambda line: line.time_s)
    return lines if last is None else lines[max(len(lines) - last, 0) :]


class _Tail:
    """Reads what is added to one file, over its rotation: the old file to its end, then the new one."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self._path = name, path(folder, name)
        self._stream = self._open(at_end=True)
        self._rest = b""

    def lines(self) -> list[LogLine]:
        data = self._stream.read() if self._stream is not None else b""
        if self._replaced():
            if self._stream is not None:
                data += self._stream.read()
                self._stream.close()
            self._stream = self._open(at_end=False)
            data += self._stream.read() if self._stream is not None else b""
        *whole, self._rest = (self._rest + data).split(b"\n")
        now = time.time()
        return [LogLine(now, self.name, line.decode("utf-8", "replace")) for line in whole]

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _open(self, *, at_end: bool) -> BinaryIO | None:
        try:
            stream = self._path.open("rb")
        except FileNotFoundError:
            return None
        if at_end:
            stream.seek(0, 2)
        return stream

    def _replaced(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        if self._stream is None:
            return True
        here = os.fstat(self._stream.fileno())
        return (here.st_ino, here.st_dev) != (there.st_ino, there.st_dev)


def follow(folder: Path, names: Sequence[str]) -> Iterator[LogLine]:
    tails = [_Tail(folder, name) for name in names]
    try:
        while True:
            fresh = [line for tail in tails for line in tail.lines()]
            yield from fresh
            if not fresh:
                time.sleep(_POLL_S)
    finally:
        for tail in tails:
            tail.close()
