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
        self._buffer = bytearray()  # the event that has begun; it grows in place, and its end is looked for once
        self._limit = limit
        self._started = False
        self._skip_newline = False

    def receive_data(self, data: bytes) -> list[bytes]:
        if b"\r" in data or self._skip_newline:
            data = self._normalise(data)
        buffer = self._buffer
        if not self._started and (buffer or data):
            buffer += data
            if buffer.startswith(b"\xef\xbb\xbf"):  # a byte order mark may stand first
                del buffer[:3]
                self._started = True
            elif not b"\xef\xbb\xbf".startswith(buffer[:3]):
                self._started = True
            data, self._buffer = bytes(buffer), bytearray()
            buffer = self._buffer
        if buffer:
            before = len(buffer)
            buffer += data
            end = buffer.rfind(b"\n\n", max(0, before - 1))
            if end < 0:
                return self._wait()
            data, self._buffer = bytes(buffer), bytearray()
        else:
            end = data.rfind(b"\n\n")
            if end < 0:
                buffer += data
                return self._wait()
        if end + 2 < len(data):
            self._buffer += data[end + 2 :]
        payloads: list[bytes] = []
        for event in data[:end].split(b"\n\n"):
            if event.startswith(b"data: ") and b"\n" not in event:  # nearly every event there is
                payloads.append(event[6:])
            elif event:
                payload = _data_of(event)
                if payload is not None:
                    payloads.append(payload)
        return payloads

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
        rest, self._buffer = bytes(self._buffer).strip(b"\n"), bytearray()
        payload = _data_of(rest) if rest else None
        return [] if payload is None else [payload]


_LINES = re.compile(rb"^data(?::[ ]?(.*))?$", re.MULTILINE)


def _data_of(event: bytes) -> bytes | None:
    lines = _LINES.findall(event)
    return b"\n".join(lines) if lines else None


def encode_all(events: list[Event]) -> bytes:
    """Events as they go to the client."""
    return b"".join([_PREFIX[type(event)] + _encode(event) + b"\n\n" for event in events])
