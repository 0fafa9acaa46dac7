"""The events of an answer as those of a response (OpenAI's Responses reference, "Streaming events"), or as a whole one.

Each content block is one output item. A client's idle timer counts data events only, so the sign of life is another
`response.in_progress`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
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
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
    Usage,
)
from llmstack.protocol.clients.asked import Stamp
from llmstack.protocol.clients.chat_answer import argument_text
from llmstack.protocol.clients.responses_tools import INPUT, ToolShape
from llmstack.protocol.errors import Failure
from llmstack.protocol.json_text import value_of

OURS = "llmstack:"  # before what this proxy puts into encrypted_content: the thinking itself, for the next turn
_ECHOED: dict[str, Any] = {
    "instructions": None, "max_output_tokens": None, "metadata": {}, "parallel_tool_calls": True,
    "previous_response_id": None, "reasoning": {"effort": None, "summary": None}, "temperature": None,
    "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": None, "truncation": "disabled",
    "user": None,
}  # fmt: skip
_INCOMPLETE = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
}
_encode = msgspec.json.Encoder().encode


def _echo(given: Any, own: Any) -> Any:
    """A member of the request, in its answer's words. It stands in three events: what is large is encoded once."""
    value = own if given is None else given
    return msgspec.Raw(_encode(value)) if isinstance(value, list | dict) and value else value


class ResponsesSide:
    """One answer. keep(response, items): called with the whole one at its end, where the client wants it stored.
    hides_thinking: each thinking item carries its text in `encrypted_content` too."""

    def __init__(
        self,
        request: Mapping[str, Any],
        shapes: Mapping[str, ToolShape],
        stamp: Stamp,
        items: list[Any],
        keep: Callable[[dict[str, Any], list[Any]], None] | None = None,
        *,
        hides_thinking: bool = False,
    ) -> None:
        self._shapes = shapes
        self._items = items
        self._keep = keep
        self._new_id = stamp.new_id
        self._hides_thinking = hides_thinking
        self._number = -1
        self._usage = Usage()
        self._thought = 0  # characters of thinking, and of all: the figures do not tell them apart
        self._written = 0
        self._stop = "end_turn"
        self._item: dict[str, Any] = {}
        self._pieces: list[str] = []
        self.response: dict[str, Any] = {
            "id": stamp.new_id("resp"),
            "object": "response",
            "created_at": stamp.created,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": request["model"],
            "output": [],
            "store": keep is not None,
            "usage": None,
            **{name: _echo(request.get(name), own) for name, own in _ECHOED.items()},
        }
        self._frame: tuple[bytes, bytes, bytes] | None = None  # of the item's deltas: they are nearly all events

    # ---- streamed ---------------------------------------------------------------------------------------------------

    def encode(self, events: list[Event]) -> bytes:
        return b"".join([self._one(event) for event in events])

    def _one(self, event: Event) -> bytes:
        if isinstance(event, BlockDelta):
            return self._delta(event.delta)
        if isinstance(event, BlockStart):
            return self._begin(event.content_block)
        if isinstance(event, BlockStop):
            return self._finish()
        if isinstance(event, MessageStart):
            self._usage = event.message.usage
            return self._event("response.created", response=self.response) + self._event(
                "response.in_progress", response=self.response
            )
        if isinstance(event, MessageDelta):
            if event.delta.stop_reason is None:
                return self._event("response.in_progress", response=self.response)
            self._usage, self._stop = event.usage, event.delta.stop_reason
        elif isinstance(event, MessageStop):
            return self._complete()
        elif isinstance(event, ErrorEvent):
            return self._failed(event.error.type, event.error.message)
        return b""

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        data = _encode({"type": kind, "sequence_number": self._number, **fields})
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)

    def _place(self, *names: str) -> dict[str, Any]:
        place = {"item_id": self._item["id"], "output_index": len(self.response["output"])}
        return {**place, **dict.fromkeys(names, 0)}

    def _piece(self, kind: str, text: str, *names: str, **more: Any) -> bytes:
        """One event of an item's many deltas: all of them but the number and the text is put together once."""
        if self._frame is None:
            place = _encode(self._place(*names))[1:-1]
            head = f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":'.encode()
            tail = b"," + _encode(more)[1:] if more else b"}"
            self._frame = (head, b"," + place + b',"delta":', tail + b"\n\n")
        head, middle, tail = self._frame
        self._number += 1
        return b"%b%d%b%b%b" % (head, self._number, middle, _encode(text), tail)

    def _begin(self, block: Any) -> bytes:
        self._pieces, self._frame = [], None
        if isinstance(block, TextBlock):
            self._item = {"type": "message", "id": self._new_id("msg"), "status": "in_progress"}
            self._item |= {"role": "assistant", "content": []}
            return self._added() + self._part_added(_text_part(""))
        if isinstance(block, ThinkingBlock):
            self._item = {
                "type": "reasoning",
                "id": self._new_id("rs"),
                "summary": [],
                "content": [],
                "encrypted_content": None,
            }
            return self._added() + self._part_added(_thinking_part(""))
        if isinstance(block, ToolUseBlock):
            self._item = self._call(block.id, block.name, "")
            return self._added()
        self._item = {}
        return b""

    def _added(self) -> bytes:
        index = len(self.response["output"])
        return self._event("response.output_item.added", output_index=index, item=self._item)

    def _part_added(self, part: dict[str, Any]) -> bytes:
        return self._event("response.content_part.added", **self._place("content_index"), part=part)

    def _delta(self, delta: Any) -> bytes:
        kind = self._item.get("type")
        if isinstance(delta, TextDelta) and kind == "message":
            self._pieces.append(delta.text)
            return self._piece("response.output_text.delta", delta.text, "content_index", logprobs=[])
        if isinstance(delta, ThinkingDelta) and kind == "reasoning":
            self._pieces.append(delta.thinking)
            return self._piece("response.reasoning_text.delta", delta.thinking, "content_index")
        if isinstance(delta, InputJsonDelta) and delta.partial_json:
            self._pieces.append(delta.partial_json)
            if kind == "function_call":
                return self._piece("response.function_call_arguments.delta", delta.partial_json)
        return b""

    def _finish(self) -> bytes:
        item, text = self._item, "".join(self._pieces)
        if not item:
            return b""
        kind = item["type"]
        self._written += len(text)
        if kind == "message":
            part = _text_part(text)
            place = self._place("content_index")
            out = self._event("response.output_text.done", **place, text=text, logprobs=[])
            out += self._event("response.content_part.done", **place, part=part)
            item |= {"content": [part]}
        elif kind == "reasoning":
            self._thought += len(text)
            part = _thinking_part(text)
            place = self._place("content_index")
            out = self._event("response.reasoning_text.done", **place, text=text)
            out += self._event("response.content_part.done", **place, part=part)
            item |= {"content": [part], "encrypted_content": self._hide(text)}
        elif kind == "custom_tool_call":
            item["input"] = _text_input(text)
            place = self._place()
            out = self._event("response.custom_tool_call_input.delta", **place, delta=item["input"])
            out += self._event("response.custom_tool_call_input.done", **place, input=item["input"])
        else:
            item["arguments"] = text or "{}"
            out = self._event(
                "response.function_call_arguments.done", **self._place(), name=item["name"], arguments=item["arguments"]
            )
        if "status" in item:
            item["status"] = "completed"
        out += self._event("response.output_item.done", output_index=len(self.response["output"]), item=item)
        self.response["output"].append(item)
        self._item = {}
        return out

    def _complete(self) -> bytes:
        self._close()
        status = self.response["status"]
        return self._event(f"response.{status}", response=self.response)

    def _close(self) -> None:
        reason = _INCOMPLETE.get(self._stop)
        self.response["status"] = "incomplete" if reason else "completed"
        self.response["incomplete_details"] = {"reason": reason} if reason else None
        self.response["usage"] = self._figures()
        if reason and self.response["output"] and "status" in self.response["output"][-1]:
            self.response["output"][-1]["status"] = "incomplete"
        if self._keep is not None:
            self._keep(self.response, self._items)

    def _failed(self, kind: str, message: str) -> bytes:
        self.response["status"] = "failed"
        self.response["error"] = {"code": _code(kind, message), "message": message}
        return self._event("response.failed", response=self.response)

    # ---- whole ------------------------------------------------------------------------------------------------------

    def whole(self, message: dict[str, Any]) -> bytes:
        for block in message.get("content", ()):
            kind = block["type"]
            if kind == "text":
                self._begin(TextBlock())
                self._pieces = [block["text"]]
            elif kind == "thinking":
                self._begin(ThinkingBlock())
                self._pieces = [block["thinking"]]
            elif kind == "tool_use":
                self._begin(ToolUseBlock(block["id"], block["name"]))
                self._pieces = [argument_text(block["input"])]
            else:
                continue
            self._finish()
        self._usage = msgspec.convert(message.get("usage") or {}, Usage)
        self._stop = message.get("stop_reason") or "end_turn"
        self._close()
        return _encode(self.response)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure.to_openai()

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _call(self, call_id: str, name: str, arguments: str) -> dict[str, Any]:
        shape = self._shapes.get(name, ToolShape(name))
        item: dict[str, Any] = {"type": "custom_tool_call" if shape.takes_text else "function_call"}
        item |= {"id": self._new_id("ctc" if shape.takes_text else "fc"), "status": "in_progress", "call_id": call_id}
        item["name"] = shape.name
        if shape.namespace:
            item["namespace"] = shape.namespace
        item["input" if shape.takes_text else "arguments"] = arguments
        return item

    def _hide(self, thinking: str) -> str | None:
        return OURS + base64.b64encode(thinking.encode("utf-8", "replace")).decode() if self._hides_thinking else None

    def _figures(self) -> dict[str, Any]:
        usage = self._usage
        thought = round(usage.output_tokens * self._thought / self._written) if self._written else 0
        return {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cache_read_input_tokens},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": usage.prompt + usage.output_tokens,
        }


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _thinking_part(text: str) -> dict[str, Any]:
    return {"type": "reasoning_text", "text": text}


def _text_input(arguments: str) -> str:
    """The text of a custom tool's call; what is no such object is the text itself."""
    try:
        value = value_of(arguments or "{}")
    except msgspec.DecodeError:
        return arguments
    text = value.get(INPUT) if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments


def _code(kind: str, message: str) -> str:
    if "prompt is too long" in message:
        return "context_length_exceeded"
    codes = {"rate_limit_error": "rate_limit_exceeded", "invalid_request_error": "invalid_prompt"}
    return codes.get(kind, "server_error")
