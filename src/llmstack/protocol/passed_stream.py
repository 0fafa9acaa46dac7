"""A stream that is passed on: byte for byte, but event by event, so that it has one end and no half of anything.

| what the upstream does                    | what the client gets                                |
| ----------------------------------------- | --------------------------------------------------- |
| ends its message, then sends more         | the end of the message, and nothing behind it       |
| is cut inside an event, or behind one     | the whole events, then one error event              |
| closes without an end                     | likewise                                            |
| closes a completion without [DONE]        | as it came, where a finish_reason has been passed   |
| sends an error, then more                 | the error, and nothing behind it                    |
"""

from __future__ import annotations

import re

import msgspec

from llmstack.protocol.json_text import value_of
from llmstack.protocol.limits import most
from llmstack.protocol.metering import Meter
from llmstack.protocol.sse import TooLong

_BLANK_LINE = re.compile(rb"\n\n|\r\n\r\n|\r\r")
_DATA = re.compile(rb"^data:[ ]?(.*)$", re.MULTILINE)


class PassedStream:
    """anthropic: of Messages events, otherwise of chat chunks. ended: the message has its end; what comes is dropped.
    complete: an end here is one that its client understands. meter: is shown each event."""

    def __init__(self, *, anthropic: bool, meter: Meter | None = None) -> None:
        self.ended = False
        self._meter = meter or Meter()
        self._anthropic = anthropic
        self._finished = False
        self._held = bytearray()
        self._looked = 0

    @property
    def complete(self) -> bool:
        return self.ended or self._finished

    def receive(self, data: bytes) -> bytes:
        """What can be passed on: whole events. Raises TooLong for one that does not end."""
        if self.ended:
            return b""
        held = self._held
        held += data
        end = 0
        while (blank := _BLANK_LINE.search(held, max(end, self._looked))) is not None:
            event = bytes(held[end : blank.end()])
            end = blank.end()
            self._meter.event()
            if b'"usage"' in event or b'"timings"' in event:
                self._meter.look(_payload(event))
            if self._is_last(event):
                self.ended = True
                break
        passed = bytes(held[:end])
        del held[:end]
        self._looked = max(0, len(held) - 3)
        if len(held) > most("event"):
            raise TooLong(f"an event of more than {most('event')} bytes")
        return passed

    def _is_last(self, event: bytes) -> bool:
        if self._anthropic:
            return (b"message_stop" in event or b"error" in event) and _type_of(event) in ("message_stop", "error")
        if b"[DONE]" in event and b"".join(_DATA.findall(event)).strip() == b"[DONE]":
            return True
        if b'"error"' in event and _is_error(event):
            return True
        if b'"finish_reason"' in event:
            self._finished = self._finished or _finishes(event)
        return False


def _data_of(event: bytes) -> bytes:
    return b"\n".join(_DATA.findall(event.replace(b"\r\n", b"\n")))


def _payload(event: bytes) -> object:
    try:
        return value_of(_data_of(event))
    except msgspec.DecodeError:
        return None


def _type_of(event: bytes) -> object:
    payload = _payload(event)
    return payload.get("type") if isinstance(payload, dict) else None


def _is_error(event: bytes) -> bool:
    payload = _payload(event)
    return isinstance(payload, dict) and bool(payload.get("error"))


def _finishes(event: bytes) -> bool:
    payload = _payload(event)
    choices = payload.get("choices") if isinstance(payload, dict) else None
    return isinstance(choices, list) and any(isinstance(one, dict) and one.get("finish_reason") for one in choices)
