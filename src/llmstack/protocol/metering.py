"""How many tokens an answer took that is passed through unread: what its upstream reports, wherever that stands.

| who answers      | where                                                                                        |
| ---------------- | -------------------------------------------------------------------------------------------- |
| OpenAI's shape   | `usage`; of a stream in its last chunk, if the client asked for it (stream_options)          |
| llama-server     | `timings` in the last chunk, always                                                          |
| Anthropic        | `usage` of message_start and message_delta; of a whole answer at its top                     |

Where nobody reports anything, size decides: about 3.6 bytes of a prompt are a token, and an event of a stream is one.
Of an answer that was cut off, only what was written counts, unless the upstream had said already what it had read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from llmstack.protocol.anthropic import Usage
from llmstack.protocol.count import estimate
from llmstack.protocol.json_text import value_of

MOST_GATHERED = 4 << 20  # bytes of a whole answer in which a report is looked for
_MOST = 1 << 40  # tokens; more is no figure of anybody
EVENT_BYTES = 120  # of a streamed message, for each token of text


class Tokens(NamedTuple):
    """prompt: all of it; cached: as much of it came from a cache."""

    prompt: int = 0
    cached: int = 0
    output: int = 0

    @property
    def computed(self) -> int:
        return max(self.prompt - self.cached, 0) + self.output


class Meter:
    """One answer. reported: what its upstream said, as far as it has."""

    def __init__(self) -> None:
        self.reported = Tokens()
        self._events = 0
        self._size = 0
        self._gathered: bytearray | None = bytearray()

    def event(self) -> None:
        """One event of a stream."""
        self._events += 1

    def piece(self, data: bytes) -> None:
        """Of an answer that is no stream."""
        self._size += len(data)
        if self._gathered is not None and self._size <= MOST_GATHERED:
            self._gathered += data
        else:
            self._gathered = None  # too large to look into

    def whole(self) -> None:
        """The end of an answer that is no stream."""
        if self._gathered and not self._events:
            try:
                self.look(value_of(bytes(self._gathered)))
            except (msgspec.DecodeError, RecursionError):
                return

    def used(self, sent: int, *, complete: bool) -> Tokens:
        """sent: bytes of the request. complete: the answer came to its end, so a report is the last one."""
        prompt, cached, output = self.reported
        if not prompt and complete:
            prompt = estimate(sent)
        if not output or not complete:
            output = max(output, self._events, estimate(self._size) if not self._events and not output else 0)
        return Tokens(prompt, cached, output)

    def look(self, payload: Any) -> None:
        """A chunk, an event or a whole answer of any of them."""
        if not isinstance(payload, dict):
            return
        message, timings = payload.get("message"), payload.get("timings")
        usage = payload.get("usage") or (message.get("usage") if isinstance(message, dict) else None)
        if isinstance(timings, dict) and not isinstance(usage, dict):
            cached = _count(timings, "cache_n")
            self.reported = Tokens(_count(timings, "prompt_n") + cached, cached, _count(timings, "predicted_n"))
        if not isinstance(usage, dict):
            return
        prompt, cached, output = self.reported
        if "prompt_tokens" in usage:
            details = usage.get("prompt_tokens_details")
            cached = _count(details, "cached_tokens") if isinstance(details, dict) else cached
            self.reported = Tokens(_count(usage, "prompt_tokens"), cached, _count(usage, "completion_tokens"))
            return
        read = _count(usage, "cache_read_input_tokens")
        whole = _count(usage, "input_tokens") + read + _count(usage, "cache_creation_input_tokens")
        self.reported = Tokens(whole or prompt, read if whole else cached, _count(usage, "output_tokens") or output)


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else 0


def tokens_of(usage: Usage, *, sent: int, streamed: int, complete: bool) -> Tokens:
    """Of a message that was translated. sent: bytes of the request; streamed: bytes of the events so far."""
    output = usage.output_tokens or streamed // EVENT_BYTES
    if not complete:
        return Tokens(output=max(output, streamed // EVENT_BYTES))
    return Tokens(usage.prompt or estimate(sent), usage.cache_read_input_tokens, output)
