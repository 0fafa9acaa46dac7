"""The events of an answer as chunks of a chat completion, or as a whole one (OpenAI's chat completions reference)."""

from __future__ import annotations

from typing import Any

import msgspec

from llmstack.protocol.anthropic import (
    BlockDelta,
    BlockStart,
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
from llmstack.protocol.errors import Failure

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_encode = msgspec.json.Encoder().encode


class ChatSide:
    """One answer. usage: whether the client asked for a last chunk with the figures (stream_options.include_usage)."""

    def __init__(self, model: str, created: int, *, usage: bool = False) -> None:
        self._model, self._created = model, created
        self._with_usage = usage
        self._usage = Usage()
        self._id = ""
        self._calls = -1
        self._finish = "stop"
        self._head = b""

    def encode(self, events: list[Event]) -> bytes:
        return b"".join([self._one(event) for event in events])

    def _one(self, event: Event) -> bytes:
        if isinstance(event, BlockDelta):
            return self._delta(event.delta)
        if isinstance(event, BlockStart):
            block = event.content_block
            if not isinstance(block, ToolUseBlock):
                return b""
            self._calls += 1
            function = {"name": block.name, "arguments": ""}
            return self._chunk(
                {"tool_calls": [{"index": self._calls, "id": block.id, "type": "function", "function": function}]}
            )
        if isinstance(event, MessageStart):
            self._id = event.message.id
            self._usage = event.message.usage
            return self._chunk({"role": "assistant", "content": ""})
        if isinstance(event, MessageDelta):
            if event.delta.stop_reason is None:  # a sign of life: a comment would not count for every client's timer
                return self._chunk({})
            self._usage = event.usage
            self._finish = FINISH.get(event.delta.stop_reason, "stop")
        elif isinstance(event, MessageStop):
            return self._end()
        elif isinstance(event, ErrorEvent):
            error = {"message": event.error.message, "type": event.error.type, "param": None, "code": None}
            return _event({"error": error})
        return b""

    def _delta(self, delta: Any) -> bytes:
        if isinstance(delta, TextDelta):
            return self._chunk({"content": delta.text})
        if isinstance(delta, InputJsonDelta):
            if not delta.partial_json:
                return b""
            return self._chunk({"tool_calls": [{"index": self._calls, "function": {"arguments": delta.partial_json}}]})
        return self._chunk({"reasoning_content": delta.thinking}) if isinstance(delta, ThinkingDelta) else b""

    def _end(self) -> bytes:
        out = self._chunk({}, self._finish)
        if self._with_usage:
            out += _event({**self._base(), "choices": [], "usage": usage_of(self._usage)})
        return out + b"data: [DONE]\n\n"

    def _base(self) -> dict[str, Any]:
        return {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        if not self._head:  # the same for each chunk of an answer, once its id is known
            self._head = b"data: " + _encode(self._base())[:-1] + b',"choices":[{"index":0,"delta":'
        return b'%s%s,"finish_reason":%s}]}\n\n' % (self._head, _encode(delta), _encode(finish))

    def whole(self, message: dict[str, Any]) -> bytes:
        text: list[str] = []
        thinking: list[str] = []
        calls: list[dict[str, Any]] = []
        for block in message.get("content", ()):
            kind = block["type"]
            if kind == "text":
                text.append(block["text"])
            elif kind == "thinking":
                thinking.append(block["thinking"])
            elif kind == "tool_use":
                function = {"name": block["name"], "arguments": argument_text(block["input"])}
                calls.append({"id": block["id"], "type": "function", "function": function})
        answer: dict[str, Any] = {"role": "assistant", "content": "".join(text) if text or not calls else None}
        if thinking:
            answer["reasoning_content"] = "".join(thinking)
        if calls:
            answer["tool_calls"] = calls
        finish = FINISH.get(message.get("stop_reason") or "", "stop")
        return _encode(
            {
                "id": message.get("id", ""),
                "object": "chat.completion",
                "created": self._created,
                "model": self._model,
                "choices": [{"index": 0, "message": answer, "logprobs": None, "finish_reason": finish}],
                "usage": usage_of(msgspec.convert(message.get("usage") or {}, Usage)),
            }
        )

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure.to_openai()


def argument_text(value: Any) -> str:
    """The arguments of a call as OpenAI's clients get them; a text that was cut off comes as it was."""
    raw = value.get("__unparsedToolInput") if isinstance(value, dict) else None
    if isinstance(raw, dict) and isinstance(raw.get("raw"), str):
        return str(raw["raw"])
    return _encode(value).decode()


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.prompt + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_input_tokens},
    }


def _event(value: Any) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"
