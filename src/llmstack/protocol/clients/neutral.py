"""What clients of OpenAI's APIs say alike, in the words of a Messages request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llmstack.protocol.errors import Refused, invalid, unsupported
from llmstack.protocol.request import EFFORTS, bounded_value

CHOICES: Mapping[str, dict[str, Any]] = {
    "auto": {"type": "auto"},
    "none": {"type": "none"},
    "required": {"type": "any"},
}
DEFAULT_MAX_TOKENS = 8192  # a Messages request must have one, a chat completion need not


def object_of(body: bytes) -> dict[str, Any]:
    """Raises Refused for what is no JSON object."""
    value = bounded_value(body)
    if not isinstance(value, dict):
        raise Refused(invalid("the request is no JSON object"))
    return value


def request_of(body: bytes) -> dict[str, Any]:
    """Raises Refused for what is no JSON object with a model."""
    value = object_of(body)
    if not isinstance(value.get("model"), str):
        raise Refused(invalid("model: a string is required"))
    return value


def thread_of(value: Mapping[str, Any]) -> str:
    """The client's own name for the conversation; "" where it has none."""
    key = value.get("prompt_cache_key")
    return key[:64] if isinstance(key, str) else ""


def add_common(body: dict[str, Any], value: Mapping[str, Any]) -> None:
    """What has the same name everywhere."""
    body |= {name: value[name] for name in ("temperature", "top_p", "stream") if value.get(name) is not None}


def add_effort(body: dict[str, Any], effort: Any) -> None:
    if effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif effort in EFFORTS:
        body["thinking"] = {"type": "adaptive"}
        body["output_config"] = {"effort": effort}


def add_shape(body: dict[str, Any], schema: Any) -> None:
    """The JSON schema that the answer is to have."""
    body["output_config"] = {**body.get("output_config", {}), "format": {"type": "json_schema", "schema": schema or {}}}


def one_at_a_time(choice: dict[str, Any] | None, parallel: Any) -> dict[str, Any] | None:
    """A tool_choice with what `parallel_tool_calls` says."""
    return {**(choice or CHOICES["auto"]), "disable_parallel_tool_use": True} if parallel is False else choice


def add_blocks(turns: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    """Turns of one role in a row are one turn."""
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def image_source(value: Any) -> dict[str, str]:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        raise Refused(invalid("image_url.url: a string is required"))
    if url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        return {"type": "base64", "media_type": head.partition(";")[0], "data": data}
    return {"type": "url", "url": url}


def document(value: Any) -> dict[str, Any]:
    """A file by its bytes. Raises Refused for one that only OpenAI's servers have."""
    data = value.get("file_data") if isinstance(value, dict) else None
    if not isinstance(data, str):
        raise Refused(unsupported("file: this stack has no files of its own; send the file's bytes as file_data"))
    head, mark, rest = data.partition(",")
    media = head[5:].partition(";")[0] if mark and head.startswith("data:") else ""
    block: dict[str, Any] = {
        "type": "document",
        "source": {"type": "base64", "media_type": media or "application/pdf", "data": rest if mark else data},
    }
    if isinstance(value.get("filename"), str):
        block["title"] = value["filename"]
    return block


def arguments_of(text: Any) -> dict[str, Any]:
    """The arguments of an earlier call; a text that was cut off is kept as one, for the model to see."""
    if isinstance(text, dict):
        return text
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeError):
        return {"arguments": text}
    return value if isinstance(value, dict) else {"arguments": text}


def for_anthropic(neutral: Mapping[str, Any]) -> dict[str, Any]:
    """A neutral body as Anthropic takes it: system texts in front, thinking only with its signature."""
    body = {"max_tokens": DEFAULT_MAX_TOKENS, **neutral}
    system = [turn["content"] for turn in body["messages"] if turn["role"] == "system" and turn["content"]]
    turns: list[dict[str, Any]] = []
    for turn in body["messages"]:
        if turn["role"] == "system":
            continue
        blocks = [block for block in turn["content"] if block["type"] != "thinking" or block["signature"]]
        if turns and turns[-1]["role"] == turn["role"]:
            turns[-1] = {**turns[-1], "content": [*turns[-1]["content"], *blocks]}
        elif blocks:
            turns.append({**turn, "content": blocks})
    body["messages"] = turns
    if system:
        body["system"] = "\n\n".join(system)
    return body
