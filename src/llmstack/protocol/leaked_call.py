"""A tool call as a model wrote it into its text: one of three forms, read whole. Every pass is linear in the text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.protocol import schema as schemas
from llmstack.protocol.json_text import value_of

OPEN, CLOSE, FUNCTION, FUNCTION_CLOSE = "<tool_call>", "</tool_call>", "<function=", "</function>"
_PARAMETER, _PARAMETER_CLOSE = "<parameter=", "</parameter>"
_NAME = re.compile(r"<function=([^>\n]{1,200})>")
_KEY = re.compile(r"<parameter=([^>\n]{1,200})>")
_BLANK = re.compile(r"\s*+")


@dataclass(frozen=True, slots=True)
class InlineCall:
    """arguments: JSON text of an object."""

    name: str
    arguments: str


def read_call(text: str, tools: Mapping[str, Any]) -> InlineCall | None:
    """The call that this text is; None when it is none of a tool of the request, or was cut off."""
    inner = text.removeprefix(OPEN).removesuffix(CLOSE).strip()
    if inner.startswith("{"):
        return read_bare(inner, tools)
    name = _NAME.match(inner)
    if name is None or name[1].strip() not in tools:
        return None
    tool = name[1].strip()
    body = inner[name.end() :].removesuffix(CLOSE).rstrip()
    end = body.rfind(FUNCTION_CLOSE)
    body = body[:end] if end >= 0 else body
    parameters, behind = _parameters(body)
    if body.find(_PARAMETER, behind) >= 0:
        return None  # the last one was cut off: half a command is no command
    properties = schemas.properties_of(tools[tool])
    arguments = {key: _typed(value, properties.get(key)) for key, value in parameters}
    return InlineCall(tool, msgspec.json.encode(arguments).decode())


def read_bare(text: str, tools: Mapping[str, Any]) -> InlineCall | None:
    try:
        value = value_of(text.strip())
    except msgspec.DecodeError:
        return None
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    if isinstance(inner, dict):
        value = inner
    name = value.get("name", inner if isinstance(inner, str) else None)
    arguments: Any = None
    for key in ("arguments", "parameters", "input"):
        if key in value:
            arguments = value[key]
            break
    if not isinstance(name, str) or name not in tools:
        return None
    if isinstance(arguments, str):
        try:
            arguments = value_of(arguments)
        except msgspec.DecodeError:
            return None
    if not isinstance(arguments, dict):
        return None
    return InlineCall(name, msgspec.json.encode(arguments).decode())


def _parameters(body: str) -> tuple[list[tuple[str, str]], int]:
    """Keys and values, and the index behind the last one.

    A value ends at closing tags behind which another parameter begins, or nothing is left: it may hold such tags
    itself.
    """
    parameters: list[tuple[str, str]] = []
    behind = position = 0
    while (start := body.find(_PARAMETER, position)) >= 0:
        key = _KEY.match(body, start)
        if key is None:
            position = start + len(_PARAMETER)
            continue
        close = body.find(_PARAMETER_CLOSE, key.end())
        while close >= 0:
            after = _behind_closings(body, close)
            if after == len(body) or body.startswith((_PARAMETER, FUNCTION_CLOSE), after):
                break
            close = body.find(_PARAMETER_CLOSE, after)
        else:
            break
        value = body[key.end() : close].removeprefix("\n").removesuffix("\n")
        parameters.append((key[1].strip(), value))
        behind = position = after
    return parameters, behind


def _behind_closings(body: str, position: int) -> int:
    while body.startswith(_PARAMETER_CLOSE, position):
        match = _BLANK.match(body, position + len(_PARAMETER_CLOSE))
        position = match.end() if match else len(body)
    return position


def _typed(value: str, schema: Any) -> Any:
    """A parameter's text as the type its schema wants; a string where it does not say."""
    types = schemas.types_of(schema)
    if types is None or "string" in types:
        return value
    try:
        return schemas.unquote(value, schema)
    except ValueError:
        return value
