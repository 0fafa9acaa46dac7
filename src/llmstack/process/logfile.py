"""Service logs as files: each line stamped with the time, rotated by size, read merged and followed over rotation.

2026-11-20T17:05:01.123Z listening on http://127.0.0.1:8080
"""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from llmstack.supervisor import LogLine

MAX_BYTES = 8 << 20
KEPT = 3  # rotated files: server.log.1 is the youngest
RETRY_S = 1.0
QUEUED = 10_000  # lines that may wait for the disk
_STAMP = len("2026-11-20T17:05:01.123Z")


def stamp(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class LogWriter:
    """Appends stamped lines; renames the file when it has grown to max_bytes.

    It never raises: a disk that is full, read-only or gone costs lines, which are counted. Each write tries anew, after
    RETRY_S at the earliest, and the first that succeeds says what was lost. problem: why lines are lost now, or "".
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self.lost = 0
        self.problem = ""
        self._path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._file: int | None = None
        self._size = 0
        self._torn = False  # the last line has no end
        self._lost_before = 0  # lines, at the last good write
        self._try_at = float("-inf")
        self._attempt(self._open)

    def write(self, time_s: float, text: str) -> None:
        if self.problem and self._clock() < self._try_at:
            self.lost += 1
            return
        lines = [(time_s, text)]
        if missing := self.lost - self._lost_before:
            lines.insert(0, (time_s, f"llmstack: {missing} lines of this log were lost: {self.problem}"))
        data = "".join(f"{stamp(when)} {line}\n" for when, line in lines).encode(errors="backslashreplace")
        if self._attempt(lambda: self._put(data)):
            self._lost_before = self.lost
        else:
            self.lost += 1

    def _attempt(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except OSError as error:
            self.problem = error.strerror or str(error)
            self._try_at = self._clock() + RETRY_S
            self.close()
            return False
        self.problem = ""
        return True

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._file = os.open(self._path, flags, 0o600)  # no link is followed, no FIFO waited for
        self._size = os.fstat(self._file).st_size

    def _put(self, data: bytes) -> None:
        if self._file is None:
            self._open()
        elif self._size >= self._max_bytes:
            self._rotate()
        assert self._file is not None
        whole = b"\n" + data if self._torn else data
        done = os.write(self._file, whole)
        self._size += done
        self._torn = done < len(whole) or (self._torn and not done)
        if done < len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _rotate(self) -> None:
        self.close()
        for number in range(KEPT - 1, 0, -1):
            older = rotated(self._path, number)
            if older.exists():
                older.replace(rotated(self._path, number + 1))
        self._path.replace(rotated(self._path, 1))
        self._torn = False
        self._open()

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None


class LogThread:
    """Writes the lines of one log in a thread of its own: a disk that hangs stops no loop. What comes while QUEUED
    lines wait is lost, and counted."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._lost = 0
        self._lines: queue.Queue[tuple[float, str] | None] = queue.Queue(QUEUED)
        self._thread = threading.Thread(target=self._run, daemon=True, name="log")
        self._thread.start()

    @property
    def lost(self) -> int:
        return self._lost + self._writer.lost

    @property
    def problem(self) -> str:
        return self._writer.problem or ("the disk takes no lines" if self._lines.full() else "")

    def write(self, time_s: float, text: str) -> None:
        try:
            self._lines.put_nowait((time_s, text))
        except queue.Full:
            self._lost += 1

    def close(self, within_s: float = 5.0) -> None:
        """Returns when all is written, or it has taken too long."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=within_s)
        self._thread.join(within_s)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._writer.write(*line)
        self._writer.close()


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
