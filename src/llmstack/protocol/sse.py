"""Server-sent events, both ways (html.spec.whatwg.org, section 9.2).

Bytes stay bytes until a whole event is there: a UTF-8 sequence, a CRLF or a line may be cut anywhere by the
network, and U+2028, U+0085 and their kin are no line ends here.
"""

from __future__ import annotations

import re

import msgspec

from llmstack.protocol.anthropic import (
    BlockDelta,
    BlockStart,
    BlockStop,
    ErrorEvent,
    Event,
    MessageDelta,
    MessageStart,
    MessageStop,
)
from llmstack.protocol.limits import most

_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
_PREFIX: dict[type[Event], bytes] = {
    kind: f"event: {kind.__struct_config__.tag}\ndata: ".encode()
    for kind in (MessageStart, BlockStart, BlockDelta, BlockStop, MessageDelta, MessageStop, ErrorEvent)
}
_MARK = b"\xef\xbb\xbf"
_SMALL = 4096  # bytes up to which putting an event together anew costs less than anything else
_BREAK = re.compile(rb"\r\n|\n|\r")


class TooLong(ValueError):
    """One event is longer than the decoder's limit."""


class SSEDecoder:
    """Feed it what the socket gave; it returns the `data` of each event that is complete.

    limit: bytes one event may have before TooLong is raised. Comments, `event`, `id` and `retry` are skipped:
    no chat completions upstream gives them a meaning.
    """

    __slots__ = ("_buffer", "_limit", "_skip_newline", "_started")

    def __init__(self, limit: int = most("event")) -> None:
        self._buffer: bytes | bytearray = b""  # the event that has begun; a long one grows in place, looked at once
        self._limit = limit
        self._started = False
        self._skip_newline = False

    def receive_data(self, data: bytes) -> list[bytes]:
        if b"\r" in data or self._skip_newline:
            data = self._normalise(data)
        buffer: bytes | bytearray = self._buffer
        if not self._started and (buffer or data):
            data, buffer = self._begun(bytes(buffer) + data), b""
            self._buffer = b""
        if isinstance(buffer, bytearray):
            before = len(buffer)
            buffer += data
            end = buffer.rfind(b"\n\n", max(0, before - 1))
            if end < 0:
                return self._wait()
            data = bytes(buffer)
        else:
            data = buffer + data if buffer else data
            end = data.rfind(b"\n\n")
            if end < 0:
                self._buffer = data if len(data) < _SMALL else bytearray(data)
                return self._wait()
        self._buffer = data[end + 2 :]
        payloads: list[bytes] = []
        for event in data[:end].split(b"\n\n"):
            if event.startswith(b"data: ") and b"\n" not in event:  # nearly every event there is
                payloads.append(event[6:])
            elif event:
                payload = _data_of(event)
                if payload is not None:
                    payloads.append(payload)
        return payloads

    def _begun(self, data: bytes) -> bytes:
        """Without a byte order mark, which may stand first."""
        if data.startswith(_MARK):
            self._started = True
            return data[len(_MARK) :]
        self._started = not _MARK.startswith(data)
        return data

    def _wait(self) -> list[bytes]:
        if len(self._buffer) > self._limit:
            raise TooLong(f"an event of more than {self._limit} bytes")
        return []

    def _normalise(self, data: bytes) -> bytes:
        """Line ends to LF; a CR at the end of one piece swallows a LF at the start of the next."""
        if self._skip_newline and data.startswith(b"\n"):
            data = data[1:]
            self._skip_newline = False
            if not data:
                return b""
        self._skip_newline = data.endswith(b"\r")
        return _BREAK.sub(b"\n", data)

    def end(self) -> list[bytes]:
        """The upstream closed: an event that only lacks its blank line still counts.

        The standard drops it; upstreams that forget the last newline exist, and dropping a finish_reason would turn
        a good answer into an error.
        """
        rest, self._buffer = bytes(self._buffer).strip(b"\n"), b""
        payload = _data_of(rest) if rest else None
        return [] if payload is None else [payload]


_LINES = re.compile(rb"^data(?::[ ]?(.*))?$", re.MULTILINE)


def _data_of(event: bytes) -> bytes | None:
    lines = _LINES.findall(event)
    return b"\n".join(lines) if lines else None


def encode_all(events: list[Event]) -> bytes:
    """Events as they go to the client."""
    return b"".join([_PREFIX[type(event)] + _encode(event) + b"\n\n" for event in events])
