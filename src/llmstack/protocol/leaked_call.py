"""A tool call as a model wrote it into its text: one of three forms, read whole. Every pass is linear in the text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
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
_decoder = json.JSONDecoder()  # it alone says where a value ends


@dataclass(frozen=True, slots=True)
class InlineCall:
    """arguments: JSON text of an object."""

    name: str
    arguments: str


def read_calls(text: str, tools: Mapping[str, Any]) -> list[InlineCall]:
    """The calls that this text is, in their order: a model may put two into one <tool_call>, or forget to close it
    between them. None of them where it is not certain where one ends: half a command is no command, and one with
    another call in it is none either.
    """
    inner = text.removeprefix(OPEN).removesuffix(CLOSE).strip()
    if inner.startswith(("{", "[")):
        return _in_json(inner, tools)
    calls: list[InlineCall] = []
    position = 0
    while (position := _behind_marks(inner, position)) < len(inner):
        function = _function(inner, position, tools)
        if function is None:
            return []
        call, position = function
        calls.append(call)
    return calls


def _in_json(text: str, tools: Mapping[str, Any]) -> list[InlineCall]:
    """Objects one behind the other, or in a list."""
    calls: list[InlineCall] = []
    with suppress(msgspec.DecodeError):
        if text.startswith("[") and isinstance(values := value_of(text), list):
            calls = [call for value in values if (call := _from_json(value, tools)) is not None]
            return calls if len(calls) == len(values) else []
    position = 0
    while (position := _behind_marks(text, position, ",")) < len(text):
        try:
            end = _decoder.raw_decode(text, position)[1]
        except (ValueError, RecursionError):
            return []
        call = read_bare(text[position:end], tools)
        if call is None:
            return []
        calls.append(call)
        position = end
    return calls


def _function(text: str, position: int, tools: Mapping[str, Any]) -> tuple[InlineCall, int] | None:
    """The call of a tool of the request that begins here, and where it ends."""
    name = _NAME.match(text, position)
    tool = name[1].strip() if name is not None else ""
    if name is None or tool not in tools:
        return None
    properties = schemas.properties_of(tools[tool])
    arguments: dict[str, Any] = {}
    position = _behind_blanks(text, name.end())
    while (key := _KEY.match(text, position)) is not None:
        close = text.find(_PARAMETER_CLOSE, key.end())
        while close >= 0:
            after = _behind_closings(text, close)
            if after == len(text) or text.startswith((_PARAMETER, FUNCTION_CLOSE), after):
                break
            close = text.find(_PARAMETER_CLOSE, after)
        else:
            return None
        value = text[key.end() : close].removeprefix("\n").removesuffix("\n")
        if _holds_call(value, tools):
            return None
        arguments[key[1].strip()] = _typed(value, properties.get(key[1].strip()))
        position = after
    if text.startswith(FUNCTION_CLOSE, position):
        position += len(FUNCTION_CLOSE)
    elif position < len(text):
        return None
    return InlineCall(tool, msgspec.json.encode(arguments).decode()), position


def _holds_call(value: str, tools: Mapping[str, Any]) -> bool:
    """Whether the beginning of another call or parameter stands in a value: it may be its text, or the model forgot to
    close what was before."""
    if OPEN in value and FUNCTION in value:
        return True
    return _PARAMETER in value or any(name[1].strip() in tools for name in _NAME.finditer(value))


def _behind_marks(text: str, position: int, also: str = "") -> int:
    """Behind blanks and the marks around a call."""
    while True:
        position = _behind_blanks(text, position)
        mark = next((mark for mark in (OPEN, CLOSE, also) if mark and text.startswith(mark, position)), None)
        if mark is None:
            return position
        position += len(mark)


def read_bare(text: str, tools: Mapping[str, Any]) -> InlineCall | None:
    try:
        return _from_json(value_of(text.strip()), tools)
    except msgspec.DecodeError:
        return None


def _from_json(value: Any, tools: Mapping[str, Any]) -> InlineCall | None:
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


def _behind_closings(body: str, position: int) -> int:
    while body.startswith(_PARAMETER_CLOSE, position):
        position = _behind_blanks(body, position + len(_PARAMETER_CLOSE))
    return position


def _behind_blanks(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match is not None else len(text)


def _typed(value: str, schema: Any) -> Any:
    """A parameter's text as the type its schema wants; a string where it does not say."""
    types = schemas.types_of(schema)
    if types is None or "string" in types:
        return value
    try:
        return schemas.unquote(value, schema)
    except ValueError:
        return value
