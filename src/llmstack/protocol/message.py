"""The events of a stream as one whole message, for clients that asked without `stream`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from llmstack.protocol.anthropic import (
    BlockDelta,
    BlockStart,
    BlockStop,
    ErrorEvent,
    Event,
    InputJsonDelta,
    MessageDelta,
    MessageStart,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
)
from llmstack.protocol.json_text import value_of


class Assembler:
    """receive() the same events the stream would send; body() is the message, error the failure if there was one."""

    def __init__(self) -> None:
        self.error: ErrorEvent | None = None
        self._message: dict[str, Any] = {"content": []}
        self._pieces: list[str] = []
        self._signature = ""

    def receive(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, BlockDelta):
                self._delta(event)
            elif isinstance(event, BlockStart):
                self._message["content"].append(msgspec.to_builtins(event.content_block))
                self._pieces = []
            elif isinstance(event, BlockStop):
                self._stop()
            elif isinstance(event, MessageStart):
                self._message = msgspec.to_builtins(event.message)
                self._message["content"] = []
            elif isinstance(event, MessageDelta):
                if event.delta.stop_reason is not None:
                    self._message["stop_reason"] = event.delta.stop_reason
                    self._message["stop_sequence"] = event.delta.stop_sequence
                self._message["usage"] = msgspec.to_builtins(event.usage)
            elif isinstance(event, ErrorEvent):
                self.error = event

    def _delta(self, event: BlockDelta) -> None:
        delta = event.delta
        if isinstance(delta, TextDelta):
            self._pieces.append(delta.text)
        elif isinstance(delta, ThinkingDelta):
            self._pieces.append(delta.thinking)
        elif isinstance(delta, InputJsonDelta):
            self._pieces.append(delta.partial_json)
        elif isinstance(delta, SignatureDelta):
            self._message["content"][-1]["signature"] = delta.signature

    def _stop(self) -> None:
        block, text = self._message["content"][-1], "".join(self._pieces)
        if block["type"] == "text":
            block["text"] += text
        elif block["type"] == "thinking":
            block["thinking"] += text
        elif block["type"] in ("tool_use", "server_tool_use"):
            block["input"] = _input(text)

    @property
    def message(self) -> dict[str, Any]:
        return self._message

    def body(self) -> bytes:
        return msgspec.json.encode(self._message)


def _input(text: str) -> Any:
    """Arguments that are no JSON object cannot be put in `input`; they are kept where the client shows them."""
    if not text.strip():
        return {}
    try:
        value = value_of(text)
    except msgspec.DecodeError:
        value = None
    if isinstance(value, dict):
        return value
    return {"__unparsedToolInput": {"raw": text, "len": len(text)}}
