"""An Anthropic upstream's bytes as the events that a client's side writes: a stream, or one whole message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from llmstack.protocol import anthropic
from llmstack.protocol.anthropic import AnyBlock, AnyDelta, ErrorBody, ErrorEvent, Event, MessageBody, StopDelta, Usage
from llmstack.protocol.clients.asked import WRONG_SHAPE, ClientSide
from llmstack.protocol.errors import Cause, Failure, FailureKind
from llmstack.protocol.json_text import value_of
from llmstack.protocol.limits import most
from llmstack.protocol.sse import SSEDecoder, TooLong

_BLOCKS: dict[str, Callable[[dict[str, Any]], AnyBlock]] = {
    "text": lambda block: anthropic.TextBlock(block.get("text", "")),
    "thinking": lambda block: anthropic.ThinkingBlock(block.get("thinking", "")),
    "tool_use": lambda block: anthropic.ToolUseBlock(block["id"], block["name"]),
}
_DELTAS: dict[str, Callable[[dict[str, Any]], AnyDelta]] = {
    "text_delta": lambda delta: anthropic.TextDelta(delta["text"]),
    "thinking_delta": lambda delta: anthropic.ThinkingDelta(delta["thinking"]),
    "input_json_delta": lambda delta: anthropic.InputJsonDelta(delta["partial_json"]),
}


def event_of(value: dict[str, Any]) -> Event | None:
    """One event; None for one that no client of another API has a word for. Raises what a wrong shape raises."""
    kind = value.get("type")
    if kind == "message_start":
        message = value["message"]
        return anthropic.MessageStart(MessageBody(message.get("id", ""), message.get("model", ""), _usage(message)))
    if kind == "content_block_start":
        block = _BLOCKS.get(value["content_block"]["type"])
        return anthropic.BlockStart(value["index"], block(value["content_block"])) if block is not None else None
    if kind == "content_block_delta":
        delta = _DELTAS.get(value["delta"]["type"])
        return anthropic.BlockDelta(value["index"], delta(value["delta"])) if delta is not None else None
    if kind == "content_block_stop":
        return anthropic.BlockStop(value["index"])
    if kind == "message_delta":
        delta = value["delta"]
        return anthropic.MessageDelta(StopDelta(delta.get("stop_reason"), delta.get("stop_sequence")), _usage(value))
    if kind == "message_stop":
        return anthropic.MessageStop()
    if kind == "error":
        return ErrorEvent(ErrorBody(value["error"].get("type", "api_error"), value["error"].get("message", "")))
    return None


def _usage(value: dict[str, Any]) -> Usage:
    counts = value.get("usage") or {}
    return msgspec.convert({name: count for name, count in counts.items() if isinstance(count, int)}, Usage)


class RelayedStream:
    """Bytes of the upstream's stream in, of the client's out; it ends in the message's end or one error."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, side: ClientSide) -> None:
        self._side = side
        self._decoder = SSEDecoder()
        self._usage = Usage()
        self._done = False

    @property
    def usage(self) -> Usage:
        """As far as it has come."""
        return self._usage

    def receive(self, data: bytes) -> bytes:
        if self._done:
            return b""
        try:
            return b"".join([self._one(payload) for payload in self._decoder.receive_data(data)])
        except TooLong as error:
            return self._lost(f"the upstream sent {error}")

    def _one(self, payload: bytes) -> bytes:
        if self._done:
            return b""
        try:
            event = event_of(msgspec.json.decode(payload, type=dict[str, Any]))
            if event is None:
                return b""
            return self._side.encode([self._summed(event)])
        except WRONG_SHAPE:
            return self._lost("the upstream sent an event that is none of Anthropic's")

    def _summed(self, event: Event) -> Event:
        """A message_delta says only the figures that are new."""
        if isinstance(event, anthropic.MessageStart):
            self._usage = event.message.usage
        elif isinstance(event, anthropic.MessageDelta):
            new = {name: count for name, count in msgspec.structs.asdict(event.usage).items() if count}
            event.usage = self._usage = msgspec.structs.replace(self._usage, **new)
        elif isinstance(event, anthropic.MessageStop | ErrorEvent):
            self._done = True
        return event

    def end(self) -> bytes:
        out = b"".join([self._one(payload) for payload in self._decoder.end()])
        return out if self._done else out + self._lost("the upstream ended its answer before it was complete")

    def lost(self, failure: Failure) -> bytes:
        """The end of a stream that broke off."""
        if self._done:
            return b""
        self._done = True
        return self._side.encode([failure.to_event()])

    def _lost(self, message: str) -> bytes:
        return self.lost(Failure(FailureKind.API, message, Cause.MALFORMED))


class RelayedBody:
    """A whole message in, one in the client's words out."""

    content_type = "application/json"

    def __init__(self, side: ClientSide) -> None:
        self._side = side
        self.usage = Usage()  # once it has ended
        self._data: list[bytes] = []
        self._left = most("answer")

    def receive(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left >= 0:
            self._data.append(data)
        else:
            self._data.clear()
        return b""

    def end(self) -> bytes:
        try:
            message = value_of(b"".join(self._data))
            self.usage = _usage(message)
            return self._side.whole(message)
        except WRONG_SHAPE:
            return self._side.failure(Failure(FailureKind.API, "the upstream sent no message", Cause.MALFORMED), "")

    def lost(self, failure: Failure) -> bytes:
        return b""
