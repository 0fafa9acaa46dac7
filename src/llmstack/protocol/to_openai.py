"""The other way round: a chat completions client in front of an Anthropic upstream.

Sources: OpenAI's chat completions reference, Anthropic's Messages reference. What has no counterpart (logprobs, n,
seed, penalties) is left out; what would change an answer's shape without it (n > 1) is refused.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llmstack.protocol.errors import Refused, invalid, unsupported
from llmstack.protocol.json_text import value_of
from llmstack.protocol.limits import most
from llmstack.protocol.sse import SSEDecoder, TooLong

DEFAULT_MAX_TOKENS = 8192  # a Messages request must have one, a chat completion need not
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
# What reading a value of another shape than Anthropic's raises.
_WRONG_SHAPE = (msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError, RecursionError)
_CHOICES = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}


def to_messages(request: dict[str, Any], model: str) -> dict[str, Any]:
    """The body of a Messages request. Raises Refused for what cannot be said in one, or has another shape."""
    try:
        return _to_messages(request, model)
    except _WRONG_SHAPE as error:
        raise Refused(invalid(f"the request is no chat completion: {type(error).__name__}: {error}"[:300])) from None


def _to_messages(request: dict[str, Any], model: str) -> dict[str, Any]:
    if request.get("n", 1) not in (1, None):
        raise Refused(unsupported("n: an Anthropic upstream gives one answer"))
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(request.get("messages") or ()):
        if not isinstance(message, dict):
            raise Refused(invalid(f"messages[{number}]: an object is required"))
        role, content = message.get("role"), message.get("content")
        if role in ("system", "developer"):
            system.append(_text(content))
        elif role == "tool":
            _add(
                turns,
                "user",
                [{"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": _text(content)}],
            )
        elif role == "assistant":
            _add(turns, "assistant", _said(message))
        elif role == "user":
            _add(turns, "user", _blocks(content))
        else:
            raise Refused(invalid(f"messages[{number}].role: {role!r} is no role"))
    limit = request.get("max_completion_tokens") or request.get("max_tokens") or DEFAULT_MAX_TOKENS
    body: dict[str, Any] = {"model": model, "max_tokens": limit, "messages": turns}
    if system:
        body["system"] = "\n\n".join(system)
    for name in ("temperature", "top_p", "stream"):
        if request.get(name) is not None:
            body[name] = request[name]
    stop = request.get("stop")
    if stop:
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    _tools(body, request)
    return body


def _tools(body: dict[str, Any], request: dict[str, Any]) -> None:
    functions = [tool.get("function", {}) for tool in request.get("tools") or () if isinstance(tool, dict)]
    if not functions:
        return
    body["tools"] = [
        {
            "name": function.get("name"),
            "description": function.get("description") or "",
            "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
        }
        for function in functions
    ]
    choice = request.get("tool_choice")
    tool_choice: dict[str, Any] | None = None
    if isinstance(choice, str):
        tool_choice = dict(_CHOICES.get(choice, {"type": "auto"}))
    elif isinstance(choice, dict):
        tool_choice = {"type": "tool", "name": choice.get("function", {}).get("name")}
    if request.get("parallel_tool_calls") is False:
        tool_choice = {**(tool_choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if tool_choice is not None:
        body["tool_choice"] = tool_choice


def _add(turns: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    """Turns of one role in a row are one turn."""
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    elif blocks:
        turns.append({"role": role, "content": blocks})


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    blocks: list[dict[str, Any]] = []
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        if part.get("type") == "text" and part.get("text"):
            blocks.append({"type": "text", "text": part["text"]})
        elif part.get("type") == "image_url":
            blocks.append({"type": "image", "source": _image(part.get("image_url"))})
    return blocks


def _image(value: Any) -> dict[str, str]:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        raise Refused(invalid("image_url.url: a string is required"))
    if url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        return {"type": "base64", "media_type": head.partition(";")[0], "data": data}
    return {"type": "url", "url": url}


def _said(message: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = _blocks(message.get("content"))
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        try:
            value = msgspec.json.decode(function.get("arguments") or "{}")
        except msgspec.DecodeError:
            value = {"arguments": function.get("arguments")}
        blocks.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": value})
    return blocks


# ---- answers ------------------------------------------------------------------------------------------------


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    cached = usage.get("cache_read_input_tokens") or 0
    prompt = (usage.get("input_tokens") or 0) + cached + (usage.get("cache_creation_input_tokens") or 0)
    output = usage.get("output_tokens") or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def to_completion(message: dict[str, Any], model: str, created: int) -> dict[str, Any]:
    """A whole message as a completion."""
    text: list[str] = []
    thinking: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in message.get("content", ()):
        if block["type"] == "text":
            text.append(block["text"])
        elif block["type"] == "thinking":
            thinking.append(block["thinking"])
        elif block["type"] == "tool_use":
            function = {"name": block["name"], "arguments": msgspec.json.encode(block["input"]).decode()}
            calls.append({"id": block["id"], "type": "function", "function": function})
    answer: dict[str, Any] = {"role": "assistant", "content": "".join(text) if text or not calls else None}
    if thinking:
        answer["reasoning_content"] = "".join(thinking)
    if calls:
        answer["tool_calls"] = calls
    finish = FINISH.get(message.get("stop_reason") or "", "stop")
    return {
        "id": message.get("id", ""),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": answer, "logprobs": None, "finish_reason": finish}],
        "usage": _usage(message.get("usage", {})),
    }


class ChunkStream:
    """Anthropic's events, one payload at a time, as the chunks of a streamed completion."""

    def __init__(self, model: str, created: int, *, usage: bool) -> None:
        self._base = {"object": "chat.completion.chunk", "created": created, "model": model}
        self._with_usage = usage
        self._usage: dict[str, Any] = {}
        self._id = ""
        self._calls = -1
        self._finish = "stop"
        self.done = False

    def receive(self, payload: bytes) -> bytes:
        """Server-sent events for the client. Raises msgspec.DecodeError for what is none of Anthropic's."""
        event: dict[str, Any] = msgspec.json.decode(payload, type=dict[str, Any])
        kind = event.get("type")
        if kind == "message_start":
            self._id = event["message"].get("id", "")
            self._usage.update(event["message"].get("usage", {}))
            return self._chunk({"role": "assistant", "content": ""})
        if kind == "content_block_start" and event["content_block"]["type"] == "tool_use":
            self._calls += 1
            block = event["content_block"]
            function = {"name": block["name"], "arguments": ""}
            return self._chunk(
                {"tool_calls": [{"index": self._calls, "id": block["id"], "type": "function", "function": function}]}
            )
        if kind == "content_block_delta":
            return self._delta(event["delta"])
        if kind == "message_delta":
            self._usage.update({k: v for k, v in event.get("usage", {}).items() if v is not None})
            reason = event["delta"].get("stop_reason")
            self._finish = FINISH.get(reason, "stop") if reason else self._finish
        elif kind == "message_stop":
            return self._end()
        elif kind == "error":
            self.done = True
            return _event({"error": {**event["error"], "code": None, "param": None}})
        return b""

    @property
    def usage(self) -> dict[str, Any]:
        """Anthropic's, as far as it has come."""
        return self._usage

    def _delta(self, delta: dict[str, Any]) -> bytes:
        kind = delta["type"]
        if kind == "text_delta":
            return self._chunk({"content": delta["text"]})
        if kind == "thinking_delta":
            return self._chunk({"reasoning_content": delta["thinking"]})
        if kind == "input_json_delta" and delta["partial_json"]:
            return self._chunk(
                {"tool_calls": [{"index": self._calls, "function": {"arguments": delta["partial_json"]}}]}
            )
        return b""

    def _end(self) -> bytes:
        self.done = True
        out = self._chunk({}, self._finish)
        if self._with_usage:
            out += _event({"id": self._id, **self._base, "choices": [], "usage": _usage(self._usage)})
        return out + b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({"id": self._id, **self._base, "choices": [choice]})


def _event(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


class OpenAIStream:
    """Bytes of an Anthropic stream in, bytes of a completion stream out; ends in [DONE] or one error."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, request: dict[str, Any], model: str, created: int) -> None:
        options = request.get("stream_options")
        self._chunks = ChunkStream(
            model, created, usage=bool(isinstance(options, dict) and options.get("include_usage"))
        )
        self._decoder = SSEDecoder()

    def receive(self, data: bytes) -> bytes:
        if self._chunks.done:
            return b""
        try:
            return b"".join(self._one(payload) for payload in self._decoder.receive_data(data))
        except TooLong as error:
            self._chunks.done = True
            return _lost(f"the upstream sent {error}")

    @property
    def usage(self) -> dict[str, Any]:
        """Anthropic's, as far as it has come."""
        return self._chunks.usage

    def _one(self, payload: bytes) -> bytes:
        if self._chunks.done:
            return b""
        try:
            return self._chunks.receive(payload)
        except _WRONG_SHAPE:
            self._chunks.done = True
            return _lost("the upstream sent an event that is none of Anthropic's")

    def end(self) -> bytes:
        out = b"".join(self._one(payload) for payload in self._decoder.end())
        return out if self._chunks.done else out + _lost("the upstream ended its answer before it was complete")


class OpenAIBody:
    """A whole Anthropic message in, a completion out."""

    content_type = "application/json"

    def __init__(self, model: str, created: int) -> None:
        self._model, self._created = model, created
        self.usage: Any = {}  # Anthropic's, once it has ended
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
            self.usage = message.get("usage") or {}
            return msgspec.json.encode(to_completion(message, self._model, self._created))
        except _WRONG_SHAPE:
            return msgspec.json.encode({"error": {"message": "the upstream sent no message", "type": "api_error"}})


def _lost(message: str) -> bytes:
    return _event({"error": {"message": message, "type": "api_error", "param": None, "code": None}})
