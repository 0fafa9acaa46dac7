"""What the model generated, kept over a restart of the proxy: one file of lines beside the states.

A line is a digest and a JSON array: tool_use id, the upstream's own id, raw arguments. Lines are only added; a killed
proxy or a full disk can tear the last one, which its digest shows. Such a line is not used, and the file is written
anew without it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from llmstack.paths import write_private
from llmstack.protocol.replay import MOST, MOST_BYTES, Generated

NAME = "calls.replay"
_DIGEST = 16  # hexadecimal digits
_MOST_FILE = 2 * (MOST_BYTES + MOST * 64)  # bytes; then it is written anew, with the last ones only


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call of a tool, as `protocol.replay.Generated` with the id the client knows it by."""

    tool_use_id: str
    upstream_id: str
    arguments: str

    @property
    def generated(self) -> Generated:
        return Generated(self.upstream_id, self.arguments)


def silent(event: str, fields: dict[str, Any]) -> None:
    return None


@dataclass(slots=True)
class CallLog:
    """root: the folder of the states. say(event, fields) tells what was ignored and why."""

    root: Path
    say: Callable[[str, dict[str, Any]], None] = silent

    @property
    def path(self) -> Path:
        return self.root / NAME

    def read(self) -> list[Call]:
        """The last calls within the bounds, the oldest first; none when there is no file. Raises OSError."""
        return _newest(_parse(self._data())[0])

    def recover(self) -> list[Call]:
        """As `read`, for the file's one writer: says what is not whole, and writes the file anew without it."""
        try:
            data = self._data()
        except OSError as error:
            self._ignored(str(error.strerror))
            return []
        calls, torn = _parse(data)
        kept = _newest(calls)
        if torn:
            self._ignored(f"{torn} of its {torn + len(calls)} lines are not whole")
        if torn or len(data) > _MOST_FILE or len(calls) > 2 * MOST:
            with suppress(OSError):
                write_private(self.path, b"".join(map(_line, kept)))
        return kept

    def add(self, calls: Sequence[Call]) -> None:
        """Raises OSError; what was written by then is a torn line at most."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as stream:
            stream.write(b"".join(map(_line, calls)))
        if self.path.stat().st_size > _MOST_FILE:
            self.recover()

    def _data(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""

    def _ignored(self, why: str) -> None:
        self.say("snapshot", {"result": "ignored", "file": NAME, "why": why})


def _line(call: Call) -> bytes:
    """JSON has no line break of its own in it. It begins with one, so that a torn line before it stays alone."""
    data = msgspec.json.encode(call)
    return b"\n" + hashlib.blake2b(data, digest_size=_DIGEST // 2).hexdigest().encode() + b" " + data


def _parse(data: bytes) -> tuple[list[Call], int]:
    """The whole lines, and how many are not."""
    calls: list[Call] = []
    torn = 0
    for line in data.split(b"\n"):
        if not line:
            continue
        digest, _, body = line.partition(b" ")
        try:
            if digest.decode("latin-1") != hashlib.blake2b(body, digest_size=_DIGEST // 2).hexdigest():
                raise ValueError
            calls.append(msgspec.json.decode(body, type=Call))
        except ValueError:  # msgspec's errors are ValueErrors
            torn += 1
    return calls, torn


def _newest(calls: list[Call]) -> list[Call]:
    """The last ones of all, each id once."""
    kept: dict[str, Call] = {}
    size = 0
    for call in reversed(calls):
        if call.tool_use_id in kept:
            continue
        size += len(call.arguments)
        if len(kept) >= MOST or size > MOST_BYTES:
            break
        kept[call.tool_use_id] = call
    return list(reversed(kept.values()))
