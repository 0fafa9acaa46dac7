"""Service logs as files: each line stamped with the time, rotated by size, read merged and followed over rotation.

2026-11-20T17:05:01.123Z listening on http://127.0.0.1:8080
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from llmstack.supervisor import LogLine

MAX_BYTES = 8 << 20
KEPT = 3  # rotated files: server.log.1 is the youngest
_STAMP = len("2026-11-20T17:05:01.123Z")


def stamp(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class LogWriter:
    """Appends stamped lines; renames the file when it has grown to max_bytes."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._open()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def write(self, time_s: float, text: str) -> None:
        if self._size >= self._max_bytes:
            self._rotate()
        line = f"{stamp(time_s)} {text}\n".encode(errors="backslashreplace")
        os.write(self._file, line)
        self._size += len(line)

    def _rotate(self) -> None:
        os.close(self._file)
        for number in range(KEPT - 1, 0, -1):
            older = rotated(self._path, number)
            if older.exists():
                older.replace(rotated(self._path, number + 1))
        self._path.replace(rotated(self._path, 1))
        self._open()

    def close(self) -> None:
        os.close(self._file)


def rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def parse(service: str, line: bytes) -> LogLine | None:
    """One line back; None when it has no stamp (a torn line of a full disk)."""
    text = line.decode(errors="replace").rstrip("\n")
    try:
        when = datetime.strptime(text[:_STAMP], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return LogLine(when.timestamp(), service, text[_STAMP + 1 :])


def read(service: str, path: Path) -> Iterator[LogLine]:
    """All lines that are kept, oldest first."""
    for number in range(KEPT, -1, -1):
        file = rotated(path, number) if number else path
        try:
            with file.open("rb") as stream:
                yield from filter(None, (parse(service, line) for line in stream))
        except FileNotFoundError:
            continue


class Follower:
    """New lines of one log since it was made (or from the start, when from_start), over any number of rotations."""

    def __init__(self, service: str, path: Path, *, from_start: bool = False) -> None:
        self._service = service
        self._path = path
        self._stream: BufferedReader | None = None
        self._rest = b""
        if not from_start and path.exists():
            self._stream = path.open("rb")
            self._stream.seek(0, os.SEEK_END)

    def lines(self) -> Iterator[LogLine]:
        """What has come since the last call."""
        while True:
            if self._stream is None:
                try:
                    self._stream = self._path.open("rb")
                except FileNotFoundError:
                    return
            replaced = self._is_replaced()  # asked before reading, so nothing written before the rename is missed
            for piece in self._stream:
                self._rest += piece
                if self._rest.endswith(b"\n"):
                    line, self._rest = self._rest, b""
                    parsed = parse(self._service, line)
                    if parsed:
                        yield parsed
            if not replaced:
                return
            self._stream.close()
            self._stream = None

    def _is_replaced(self) -> bool:
        assert self._stream is not None
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        return now.st_ino != os.fstat(self._stream.fileno()).st_ino

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
