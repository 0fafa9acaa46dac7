"""The events of an answer as those of Gemini's streamGenerateContent, or as one whole response.

A call has no pieces there: it goes out when its arguments are whole. Its thought signature is its tool_use id behind
SIGNATURE, for clients that keep signatures and no ids.
"""

from __future__ import annotations

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
    MessageStop,
    TextDelta,
    ThinkingDelta,
    ToolUseBlock,
    Usage,
)
from llmstack.protocol.clients.neutral import arguments_of
from llmstack.protocol.errors import Cause, Failure, FailureKind

SIGNATURE = "llmstack:"
FINISH = {"max_tokens": "MAX_TOKENS", "model_context_window_exceeded": "MAX_TOKENS", "refusal": "SAFETY"}
_encode = msgspec.json.Encoder().encode


class GeminiSide:
    """One answer. thoughts: whether the client wants to see them (thinkingConfig.includeThoughts). array: a whole one
    is the only item of a list."""

    def __init__(self, model: str, response_id: str, *, thoughts: bool = False, array: bool = False) -> None:
        self._array = array
        self._head = {"modelVersion": model, "responseId": response_id}
        self._thoughts = thoughts
        self._usage = Usage()
        self._finish = "STOP"
        self._call: ToolUseBlock | None = None
        self._arguments: list[str] = []

    def encode(self, events: list[Event]) -> bytes:
        return b"".join([self._one(event) for event in events])

    def _one(self, event: Event) -> bytes:
        if isinstance(event, BlockDelta):
            return self._delta(event.delta)
        if isinstance(event, BlockStart):
            if isinstance(event.content_block, ToolUseBlock):
                self._call, self._arguments = event.content_block, []
        elif isinstance(event, BlockStop):
            call, self._call = self._call, None
            if call is not None:
                return self._chunk([part_of_call(call.id, call.name, arguments_of("".join(self._arguments)))])
        elif isinstance(event, MessageStart):
            self._usage = event.message.usage
        elif isinstance(event, MessageDelta):
            if event.delta.stop_reason is None:  # a sign of life
                return _event(self._head)
            self._usage = event.usage
            self._finish = FINISH.get(event.delta.stop_reason, "STOP")
        elif isinstance(event, MessageStop):
            return self._chunk([], self._finish)
        elif isinstance(event, ErrorEvent):
            known = {kind.value: kind for kind in FailureKind}
            kind = known.get(event.error.type, FailureKind.API)
            failure = Failure(kind, event.error.message, Cause.UPSTREAM)
            return b"data: " + failure.to_gemini() + b"\n\n"
        return b""

    def _delta(self, delta: Any) -> bytes:
        if isinstance(delta, TextDelta):
            return self._chunk([{"text": delta.text}])
        if isinstance(delta, InputJsonDelta):
            self._arguments.append(delta.partial_json)
        elif isinstance(delta, ThinkingDelta) and self._thoughts:
            return self._chunk([{"text": delta.thinking, "thought": True}])
        return b""

    def _chunk(self, parts: list[dict[str, Any]], finish: str | None = None) -> bytes:
        return _event(self._response(parts, finish))

    def _response(self, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        usage = {"usageMetadata": usage_of(self._usage)} if finish is not None else {}
        return {"candidates": [candidate], **usage, **self._head}

    def whole(self, message: dict[str, Any]) -> bytes:
        parts: list[dict[str, Any]] = []
        for block in message.get("content", ()):
            kind = block["type"]
            if kind == "text":
                parts.append({"text": block["text"]})
            elif kind == "thinking" and self._thoughts:
                parts.append({"text": block["thinking"], "thought": True})
            elif kind == "tool_use":
                parts.append(part_of_call(block["id"], block["name"], block["input"]))
        self._usage = msgspec.convert(message.get("usage") or {}, Usage)
        response = self._response(parts, FINISH.get(message.get("stop_reason") or "", "STOP"))
        return _encode([response] if self._array else response)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure.to_gemini()


def part_of_call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    function = {"id": call_id, "name": name, "args": arguments}
    return {"functionCall": function, "thoughtSignature": SIGNATURE + call_id}


def usage_of(usage: Usage) -> dict[str, int]:
    return {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": usage.output_tokens,
        "totalTokenCount": usage.prompt + usage.output_tokens,
        "cachedContentTokenCount": usage.cache_read_input_tokens,
    }


def _event(value: Any) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"
