"""A Responses request as the body of a Messages request (OpenAI's Responses reference; what Codex sends).

- The first developer messages are the system text; later ones stay where they stand.
- A thread that is summed up comes without its tools (Codex, compaction). They stay in the prompt, with calls forbidden:
  a prompt begins with its tools, and nearly all of it would be read anew.
- Thinking comes back as a reasoning item, by its text or by what this proxy put into `encrypted_content`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from llmstack.protocol.clients import neutral
from llmstack.protocol.clients.asked import WRONG_SHAPE, Asked, Stamp
from llmstack.protocol.clients.responses_answer import OURS, ResponsesSide
from llmstack.protocol.clients.responses_store import ResponsesStore
from llmstack.protocol.clients.responses_tools import INPUT, joined_name, to_choice, to_tools
from llmstack.protocol.errors import Failure, FailureKind, Refused, invalid, unsupported
from llmstack.protocol.request import checked

_OF_SERVERS = ("background", "conversation", "prompt")
# Read here, or of no account for an answer.
_READ = frozenset(
    {
        "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens",
        "reasoning", "text", "temperature", "top_p", "stream", "stream_options", "store", "include",
        "previous_response_id", "prompt_cache_key", "prompt_cache_retention", "metadata", "client_metadata", "user",
        "safety_identifier", "service_tier", "truncation",
    }
)  # fmt: skip
_ROLES = frozenset({"user", "assistant", "system", "developer"})


def asked(body: bytes, stamp: Stamp, store: ResponsesStore) -> Asked:
    """Raises Refused."""
    value = neutral.request_of(body)
    for name in _OF_SERVERS:
        if value.get(name):
            raise Refused(unsupported(f"{name}: only OpenAI's servers have it; send the whole input"))
    try:
        return _asked(value, stamp, store)
    except WRONG_SHAPE as error:
        raise Refused(invalid(f"the request is no Responses request: {type(error).__name__}: {error}"[:300])) from None


def _asked(value: dict[str, Any], stamp: Stamp, store: ResponsesStore) -> Asked:
    items = _items(value, store)
    thread = neutral.thread_of(value)
    offered, choice = value.get("tools") or [], value.get("tool_choice")
    if offered:
        store.keep_tools(thread, offered)
    elif thread and any(_is_call(item) for item in items):
        offered, choice = store.tools_of(thread) or [], "none"
    tools, shapes = to_tools(offered)
    turns: list[dict[str, Any]] = []
    if isinstance(value.get("instructions"), str) and value["instructions"]:
        turns.append({"role": "system", "content": value["instructions"]})
    for number, item in enumerate(items):
        _add_item(turns, item, f"input[{number}]")
    payload: dict[str, Any] = {"model": value["model"], "messages": turns}
    if value.get("max_output_tokens"):
        payload["max_tokens"] = value["max_output_tokens"]
    neutral.add_common(payload, value)
    if tools:
        payload["tools"] = tools
        tool_choice = to_choice(choice, value.get("parallel_tool_calls"))
        if tool_choice is not None:
            payload["tool_choice"] = tool_choice
    extra = _settings(payload, value)
    hides = "reasoning.encrypted_content" in (value.get("include") or ())
    keep = store.keep if value.get("store", True) else None
    side = partial(ResponsesSide, value, shapes, stamp, items, keep, hides_thinking=hides)
    request = checked(payload)
    request.ignored = tuple(name for name in value if name not in _READ and value[name] is not None)
    return Asked(request, side, body=partial(neutral.for_anthropic, payload), extra=extra, conversation=thread)


def _items(value: Mapping[str, Any], store: ResponsesStore) -> list[Any]:
    given = value.get("input")
    if isinstance(given, str):
        items: list[Any] = [{"type": "message", "role": "user", "content": given}]
    elif isinstance(given, list):
        items = given
    else:
        raise Refused(invalid("input: a text or a list of items is required"))
    previous = value.get("previous_response_id")
    if previous is None:
        return items
    before = store.items_of(str(previous))
    if before is None:
        words = f"previous_response_id: {str(previous)[:80]!r} is not kept here any more; send the whole input"
        raise Refused(Failure(FailureKind.NOT_FOUND, words, status=400))
    return [*before, *items]


def _is_call(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") in ("function_call", "custom_tool_call")


def _settings(payload: dict[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """Thinking and the answer's shape; what an upstream of OpenAI's kind takes besides."""
    reasoning = value.get("reasoning")
    neutral.add_effort(payload, reasoning.get("effort") if isinstance(reasoning, dict) else None)
    text = value.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    if isinstance(form, dict) and form.get("type") == "json_schema":
        neutral.add_shape(payload, form.get("schema"))
    elif isinstance(form, dict) and form.get("type") == "json_object":
        return {"response_format": {"type": "json_object"}}
    return {}


# ---- items ----------------------------------------------------------------------------------------------------------


def _add_item(turns: list[dict[str, Any]], item: Any, where: str) -> None:
    if not isinstance(item, dict):
        raise Refused(invalid(f"{where}: an object is required"))
    kind = item.get("type") or ("message" if "role" in item else "")
    if kind in ("message", "agent_message"):
        _add_message(turns, item, where)
    elif kind in ("function_call", "custom_tool_call"):
        takes_text = kind == "custom_tool_call"
        given = {INPUT: item.get("input") or ""} if takes_text else neutral.arguments_of(item.get("arguments"))
        name = joined_name(item.get("namespace"), item.get("name"))
        block = {"type": "tool_use", "id": item.get("call_id") or "", "name": name, "input": given}
        _add(turns, "assistant", [block])
    elif kind in ("function_call_output", "custom_tool_call_output"):
        content = _content(item.get("output"), where)
        _add(turns, "user", [{"type": "tool_result", "tool_use_id": item.get("call_id") or "", "content": content}])
    elif kind == "reasoning":
        thinking = _thinking(item)
        if thinking:
            _add(turns, "assistant", [{"type": "thinking", "thinking": thinking, "signature": ""}])
    elif kind == "item_reference":
        raise Refused(unsupported(f"{where}: items are not kept on this server; send the item itself"))
    elif isinstance(kind, str) and kind:
        # What OpenAI's own tools left: the model is told, as far as it can be read.
        role = "user" if kind.endswith("_output") else "assistant"
        _add(turns, role, [{"type": "text", "text": f"[{kind}: {_told(item)}]"}])
    else:
        raise Refused(invalid(f"{where}.type: a string is required"))


def _add_message(turns: list[dict[str, Any]], item: Mapping[str, Any], where: str) -> None:
    role = item.get("role")
    if role not in _ROLES:
        raise Refused(invalid(f"{where}.role: {role!r} is no role"))
    blocks = _content(item.get("content"), where)
    if role in ("system", "developer"):
        turns.append({"role": "system", "content": "\n\n".join(b["text"] for b in blocks if b["type"] == "text")})
    else:
        _add(turns, str(role), blocks)


def _content(content: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    blocks: list[dict[str, Any]] = []
    for number, part in enumerate(content or ()):
        kind = part.get("type") if isinstance(part, dict) else None
        at = f"{where}.content[{number}]"
        if kind in ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text"):
            text = part.get("text") or part.get("refusal")
            if text:
                blocks.append({"type": "text", "text": text})
        elif kind in ("input_image", "image"):
            if not part.get("image_url"):
                raise Refused(unsupported(f"{at}.file_id: this stack has no files of its own; send image_url"))
            blocks.append({"type": "image", "source": neutral.image_source(part["image_url"])})
        elif kind == "input_file" and isinstance(part.get("file_url"), str):
            blocks.append({"type": "document", "source": {"type": "url", "url": part["file_url"]}})
        elif kind == "input_file":
            blocks.append(neutral.document(part))
        else:
            raise Refused(unsupported(f"{at}.type: {kind!r} cannot be given to this model"))
    return blocks


def _thinking(item: Mapping[str, Any]) -> str:
    parts = [*(item.get("content") or ()), *(() if item.get("content") else item.get("summary") or ())]
    text = "\n\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
    hidden = item.get("encrypted_content")
    if not item.get("content") and isinstance(hidden, str) and hidden.startswith(OURS):
        try:
            return base64.b64decode(hidden[len(OURS) :], validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            return text
    return text


def _told(item: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in item.items() if name not in ("type", "id", "status", "encrypted_content")}
    return msgspec.json.encode(shown).decode()


def _add(turns: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    """An item that says nothing is no turn."""
    if blocks:
        neutral.add_blocks(turns, role, blocks)
