"""The tool calls the model generated, kept over a restart of the proxy: one file of lines beside the states.

A client does not send a call back as it was generated (protocol/replay.py), and a prompt that differs there is read
again from there on. So the replay memory is read when the first request comes, and what is new is written behind the
requests' backs.

A line is a digest and a JSON array: tool_use id, the upstream's own id, raw arguments, what came beside, and the
function that called it by name. Lines are only added; a killed proxy or a full disk can tear the last one, which its
digest shows. Such a line is not used, and the file is written anew without it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from llmstack.paths import write_private
from llmstack.protocol.replay import MOST, MOST_BYTES, Generated, Replay
from llmstack.warmstart.interface import LogEvent, silent

FILE_NAME = "calls.replay"
WRITE_S = 1.0  # what a killed proxy may lose
WAIT_S = 2.0  # a request waits so long for the file to be read, then goes without it
_DIGEST = 16  # hexadecimal digits
_MOST_FILE = 2 * (MOST_BYTES + MOST * 64)  # bytes; then it is written anew, with the last ones only


class StoredToolCall(msgspec.Struct, frozen=True, array_like=True):
    """One call of a tool, as `protocol.replay.Generated` with the id the client knows it by."""

    tool_use_id: str
    upstream_id: str
    arguments: str
    extra: str = ""
    caller: str = ""

    @property
    def generated(self) -> Generated:
        return Generated(self.upstream_id, self.arguments, self.extra, self.caller)


class ToolCallStore:
    """root: the folder of the states. The proxy is the file's only writer; commands read and remove it."""

    def __init__(self, root: Path, replay: Replay | None = None, log_event: LogEvent = silent) -> None:
        self.path = root / FILE_NAME
        self._replay = replay if replay is not None else Replay()
        self._log_event = log_event
        self._reading: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._fault = ""

    # ---- beside the requests --------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Call before a request is translated; at once but for the first of a proxy's life."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._recall())
        if not self._reading.done():
            await asyncio.wait({self._reading}, timeout=WAIT_S)

    async def _recall(self) -> None:
        calls = await asyncio.to_thread(self.recover)
        self._replay.recall((call.tool_use_id, call.generated) for call in calls)

    async def watch(self) -> None:
        """Runs beside the requests until it is cancelled."""
        while True:
            await asyncio.sleep(WRITE_S)
            await self.write()

    async def write(self) -> None:
        """What is new goes to disk. A disk that refuses costs the memory of a later proxy, and one line in the log."""
        async with self._writing:
            calls = [
                StoredToolCall(
                    tool_use_id, generated.upstream_id, generated.arguments, generated.extra, generated.caller
                )
                for tool_use_id, generated in self._replay.unsaved()
            ]
            if not calls:
                return
            try:
                await asyncio.to_thread(self.add, calls)
                self._fault = ""
            except OSError as error:
                fault = str(error.strerror)
                if fault != self._fault:
                    self._log_event("snapshot", {"result": "dropped", "kind": "tool calls", "why": fault})
                self._fault = fault

    # ---- the file ------------------------------------------------------------------------------------------------

    def read(self) -> list[StoredToolCall]:
        """The last calls within the bounds, the oldest first; none when there is no file. Raises OSError."""
        return _newest(_parse(self._data())[0])

    def recover(self) -> list[StoredToolCall]:
        """As `read`, for the file's one writer: logs what is not whole, and writes the file anew without it."""
        try:
            data = self._data()
        except OSError as error:
            self._ignored(str(error.strerror))
            return []
        calls, torn = _parse(data)
        newest = _newest(calls)
        if torn:
            self._ignored(f"{torn} of its {torn + len(calls)} lines are not whole")
        if torn or len(data) > _MOST_FILE or len(calls) > 2 * MOST:
            with suppress(OSError):
                write_private(self.path, b"".join(map(_line, newest)))
        return newest

    def add(self, calls: Sequence[StoredToolCall]) -> None:
        """Raises OSError; what was written by then is a torn line at most."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as stream:
            stream.write(b"".join(map(_line, calls)))
        if self.path.stat().st_size > _MOST_FILE:
            self.recover()

    def clear(self) -> int:
        """Removes them; returns the bytes they took."""
        try:
            size = self.path.stat().st_size
            self.path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def _data(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""

    def _ignored(self, why: str) -> None:
        self._log_event("snapshot", {"result": "ignored", "file": FILE_NAME, "why": why})


def _line(call: StoredToolCall) -> bytes:
    """JSON has no line break of its own in it. It begins with one, so that a torn line before it stays alone."""
    data = msgspec.json.encode(call)
    return b"\n" + hashlib.blake2b(data, digest_size=_DIGEST // 2).hexdigest().encode() + b" " + data


def _parse(data: bytes) -> tuple[list[StoredToolCall], int]:
    """The whole lines, and how many are not."""
    calls: list[StoredToolCall] = []
    torn = 0
    for line in data.split(b"\n"):
        if not line:
            continue
        digest, _, body = line.partition(b" ")
        try:
            if digest.decode("latin-1") != hashlib.blake2b(body, digest_size=_DIGEST // 2).hexdigest():
                raise ValueError
            calls.append(msgspec.json.decode(body, type=StoredToolCall))
        except ValueError:  # msgspec's errors are ValueErrors
            torn += 1
    return calls, torn


def _newest(calls: list[StoredToolCall]) -> list[StoredToolCall]:
    """The last ones of all, each id once."""
    newest: dict[str, StoredToolCall] = {}
    size = 0
    for call in reversed(calls):
        if call.tool_use_id in newest:
            continue
        size += len(call.arguments)
        if len(newest) >= MOST or size > MOST_BYTES:
            break
        newest[call.tool_use_id] = call
    return list(reversed(newest.values()))
