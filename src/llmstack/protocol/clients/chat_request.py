"""A chat completion's request as the body of a Messages request.

Sources: OpenAI's chat completions reference, Anthropic's Messages reference. What has no counterpart goes to an
upstream that speaks chat completions as it came, and is refused by one that doesn't where the answer would have another
shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from llmstack.protocol.clients import neutral
from llmstack.protocol.clients.asked import WRONG_SHAPE, Asked, Stamp
from llmstack.protocol.clients.chat_answer import ChatSide
from llmstack.protocol.errors import Refused, invalid
from llmstack.protocol.request import checked

# Said in neutral words, or of no account for an answer.
_SAID = frozenset(
    {
        "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "max_tokens", "max_completion_tokens",
        "stop", "temperature", "top_p", "stream", "stream_options", "response_format", "reasoning_effort", "n",
    }
)  # fmt: skip
# Members whose answers no neutral stream has a place for: the client's bytes are passed on as they are.
_AS_IT_IS = {
    "logprobs": "log probabilities",
    "top_logprobs": "log probabilities",
    "n_probs": "log probabilities",
    "post_sampling_probs": "log probabilities",
    "audio": "audio",
    "functions": "functions in their old form (use tools)",
    "function_call": "functions in their old form (use tools)",
    "web_search_options": "a web search of the server's",
    "return_tokens": "token numbers",
    "timings_per_token": "timings",
    "verbose": "the server's own words",
    "response_fields": "the server's own words",
    "grammar_lazy": "a grammar that waits for its trigger",
    "continue_final_message": "an answer that goes on in the last message",
    "add_generation_prompt": "a prompt without its end",
}
_PARTS = frozenset({"text", "image_url", "file", "refusal"})


def asked(body: bytes, stamp: Stamp) -> Asked:
    """Raises Refused."""
    value = neutral.request_of(body)
    payload = to_messages(value)
    as_it_is = _beyond(value)
    options = value.get("stream_options")
    usage = isinstance(options, dict) and bool(options.get("include_usage"))
    response_format = value.get("response_format")
    extra = {name: member for name, member in value.items() if name not in _SAID and name not in _AS_IT_IS}
    if isinstance(response_format, dict) and response_format.get("type") not in (None, "text", "json_schema"):
        extra["response_format"] = response_format
    return Asked(
        checked(payload),
        partial(ChatSide, value["model"], stamp.created, usage=usage),
        body=partial(neutral.for_anthropic, payload),
        extra=extra,
        conversation=neutral.thread_of(value),
        as_it_is=as_it_is,
    )


def _beyond(value: Mapping[str, Any]) -> str:
    """What of this request no Messages request can say; "" for nothing."""
    if value.get("n") not in (None, 1):
        return "several answers (n)"
    if isinstance(value.get("modalities"), list) and value["modalities"] != ["text"]:
        return "an answer that is no text"
    for name, what in _AS_IT_IS.items():
        if value.get(name) not in (None, False, [], {}):
            return f"{what} ({name})"
    for message in value["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") not in _PARTS:
                return f"a content part of type {part.get('type')!r}"
    if any(isinstance(tool, dict) and tool.get("type", "function") != "function" for tool in value.get("tools") or ()):
        return "tools that are no functions"
    return ""


def to_messages(request: dict[str, Any]) -> dict[str, Any]:
    """The body of a Messages request, with system messages where they stood. Raises Refused for another shape."""
    try:
        return _to_messages(request)
    except WRONG_SHAPE as error:
        raise Refused(invalid(f"the request is no chat completion: {type(error).__name__}: {error}"[:300])) from None


def _to_messages(request: dict[str, Any]) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []
    messages = request.get("messages")
    if not isinstance(messages, list):
        raise Refused(invalid("messages: a list is required"))
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise Refused(invalid(f"messages[{number}]: an object is required"))
        role, content = message.get("role"), message.get("content")
        if role in ("system", "developer"):
            turns.append({"role": "system", "content": _text(content)})
        elif role == "tool":
            result = {
                "type": "tool_result",
                "tool_use_id": message.get("tool_call_id") or "",
                "content": _blocks(content),
            }
            neutral.add_blocks(turns, "user", [result])
        elif role == "assistant":
            neutral.add_blocks(turns, "assistant", _said(message))
        elif role == "user":
            neutral.add_blocks(turns, "user", _blocks(content))
        else:
            raise Refused(invalid(f"messages[{number}].role: {role!r} is no role"))
    body: dict[str, Any] = {"model": request.get("model"), "messages": turns}
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    if limit:
        body["max_tokens"] = limit
    neutral.add_common(body, request)
    stop = request.get("stop")
    if stop:
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    neutral.add_effort(body, request.get("reasoning_effort"))
    _shape(body, request.get("response_format"))
    _tools(body, request)
    return body


def _shape(body: dict[str, Any], response_format: Any) -> None:
    if not isinstance(response_format, dict):
        return
    wrapper = response_format.get("json_schema")
    if response_format.get("type") == "json_schema" and isinstance(wrapper, dict):
        neutral.add_shape(body, wrapper.get("schema"))


def _tools(body: dict[str, Any], request: dict[str, Any]) -> None:
    functions = [
        tool["function"]
        for tool in request.get("tools") or ()
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    if not functions:
        return
    body["tools"] = [
        {
            "name": function.get("name") or "",
            "description": function.get("description") or "",
            "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
            **({"strict": True} if function.get("strict") is True else {}),
        }
        for function in functions
    ]
    choice = request.get("tool_choice")
    tool_choice: dict[str, Any] | None = None
    if isinstance(choice, str):
        tool_choice = neutral.CHOICES.get(choice, neutral.CHOICES["auto"])
    elif isinstance(choice, dict):
        tool_choice = {"type": "tool", "name": choice.get("function", {}).get("name")}
    tool_choice = neutral.one_at_a_time(tool_choice, request.get("parallel_tool_calls"))
    if tool_choice is not None:
        body["tool_choice"] = tool_choice


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
        kind = part.get("type")
        if kind in ("text", "refusal") and part.get(kind):
            blocks.append({"type": "text", "text": part[kind]})
        elif kind == "image_url":
            blocks.append({"type": "image", "source": neutral.image_source(part.get("image_url"))})
        elif kind == "file":
            blocks.append(neutral.document(part.get("file")))
    return blocks


def _said(message: dict[str, Any]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thinking, str) and thinking:
        blocks.append({"type": "thinking", "thinking": thinking, "signature": ""})
    blocks += _blocks(message.get("content"))
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        blocks.append(
            {
                "type": "tool_use",
                "id": call.get("id") or "",
                "name": function.get("name") or "",
                "input": neutral.arguments_of(function.get("arguments")),
            }
        )
    return blocks
