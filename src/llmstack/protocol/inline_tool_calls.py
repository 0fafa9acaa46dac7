"""Tool calls that a model wrote into its text, and thinking it left inline.

Three forms are known: JSON in <tool_call> (Qwen3, Hermes), <function=NAME><parameter=KEY> with or without its
<tool_call> (Qwen3-Coder), and a bare {"name": ..., "arguments": ...}. One becomes a call only if it names a tool of
the request and stands outside a code fence; everything else stays the text it was, to the byte.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.protocol import schema as schemas

_OPEN, _CLOSE, _FUNCTION = "<tool_call>", "</tool_call>", "<function="
_THINK, _THOUGHT = "<think>", "</think>"
_MARK = re.compile(r"```|<tool_call>|<function=")
_MARKS = ("```", _OPEN, _FUNCTION)
_BARE_KEYS = ('"name"', '"arguments"', '"parameters"', '"type"', '"function"')
_FUNCTION_END = re.compile(r"</function>\s*")
_XML_END = re.compile(r"</function>\s*</tool_call>")
_NAME = re.compile(r"<function=([^>\n]{1,200})>")
_PARAMETER = re.compile(
    r"<parameter=([^>\n]{1,200})>(.*?)(?:</parameter>\s*)+(?=<parameter=|</function>|\Z)", re.DOTALL
)
_HELD_AT_MOST = 1024 * 1024


@dataclass(frozen=True, slots=True)
class InlineCall:
    """arguments: JSON text of an object."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Thought:
    text: str


class _In(enum.Enum):
    TEXT = "text"
    CALL = "call"
    BARE = "bare"
    THINK = "think"
    AFTER = "after"  # behind a call that may still have its closing tag


class InlineToolCallParser:
    def __init__(self, tools: Mapping[str, Any], *, thinking: bool = True) -> None:
        self._tools = tools
        self._thinking = thinking
        self._in = _In.TEXT
        self._held = ""
        self._begun = False  # text that is not blank has been seen
        self._fenced = False
        self._tried = 0

    def idle(self, text: str) -> bool:
        """True when this text certainly passes: nearly every delta takes this way out."""
        if self._held or self._in is not _In.TEXT:
            return False
        if not self._begun:
            return False
        return not self._tools or ("<" not in text and "`" not in text)

    def receive(self, text: str) -> list[str | InlineCall | Thought]:
        out: list[str | InlineCall | Thought] = []
        self._held += text
        while self._held and self._step(out):
            pass
        return out

    def end(self) -> list[str | InlineCall | Thought]:
        """No more text: what is held is a call without its end, or text after all."""
        out: list[str | InlineCall | Thought] = []
        held, self._held = self._held, ""
        state, self._in = self._in, _In.TEXT
        if not held:
            return out
        if state is _In.THINK:
            out.append(Thought(held))
        elif state is _In.CALL:
            call = self._parse(held)
            out.append(call if call is not None else held)
        elif state is _In.BARE:
            call = self._bare(held)
            out.append(call if call is not None else held)
        elif state is _In.AFTER:
            rest = held.strip()
            if rest and not _CLOSE.startswith(rest):
                out.append(held)
        else:
            out.append(held)
        return out

    # ---- one step: False when more text is needed -----------------------------------------------------------

    def _step(self, out: list[str | InlineCall | Thought]) -> bool:
        if self._in is _In.TEXT:
            return self._text(out)
        if self._in is _In.THINK:
            return self._think(out)
        if self._in is _In.BARE:
            return self._bare_step(out)
        if self._in is _In.AFTER:
            return self._after()
        return self._call(out)

    def _text(self, out: list[str | InlineCall | Thought]) -> bool:
        held = self._held
        if not self._begun:
            start = held.lstrip()
            if not start:
                return False
            if self._thinking and start.startswith(_THINK):
                self._held = start[len(_THINK) :]
                self._in = _In.THINK
                return True
            if self._thinking and _THINK.startswith(start):
                return False
            if self._tools and start[0] == "{":
                self._in = _In.BARE
                return True
            self._begun = True
        if not self._tools:
            out.append(held)
            self._held = ""
            return False
        position = 0
        for mark in _MARK.finditer(held):
            if mark.group() == "```":
                self._fenced = not self._fenced
                position = mark.end()
                continue
            quoted = mark.start() > 0 and held[mark.start() - 1] == "`"
            if self._fenced or quoted:
                position = mark.end()
                continue
            if mark.start():
                out.append(held[: mark.start()])
            self._held = held[mark.start() :]
            self._in = _In.CALL
            return True
        keep = _partial_mark(held, position)
        if keep < len(held):
            # A backtick directly before what is kept decides whether it is quoted, so it is kept as well.
            if keep > position and held[keep - 1 : keep] == "`" and held[keep : keep + 1] == "<":
                keep -= 1
            if keep:
                out.append(held[:keep])
            self._held = held[keep:]
            return False
        out.append(held)
        self._held = ""
        return False

    def _think(self, out: list[str | InlineCall | Thought]) -> bool:
        before, mark, after = self._held.partition(_THOUGHT)
        if mark:
            if before:
                out.append(Thought(before))
            self._held = after.lstrip("\n")
            self._in = _In.TEXT
            self._thinking = False
            return True
        keep = _partial(self._held, _THOUGHT)
        if keep:
            out.append(Thought(self._held[:keep]))
        self._held = self._held[keep:]
        return False

    def _call(self, out: list[str | InlineCall | Thought]) -> bool:
        held = self._held
        if held.startswith(_OPEN):
            inner = held[len(_OPEN) :].lstrip()
            if inner and inner[0] != "{" and not inner.startswith(_FUNCTION) and not _FUNCTION.startswith(inner):
                return self._no_call(out, len(_OPEN))
            if inner.startswith(_FUNCTION):
                # A parameter may itself speak of </tool_call>: only behind </function> is it the end.
                match = _XML_END.search(held)
                end = match.end() if match else -1
            else:
                end = held.find(_CLOSE)
                end = end + len(_CLOSE) if end >= 0 else -1
        else:
            match = _FUNCTION_END.search(held)
            end = match.end() if match else -1
            name = _NAME.match(held)
            if name and name[1].strip() not in self._tools:
                return self._no_call(out, len(_FUNCTION))
        if end < 0:
            return self._no_call(out, len(_OPEN)) if len(held) > _HELD_AT_MOST else False
        call = self._parse(held[:end])
        if call is None:
            return self._no_call(out, len(_FUNCTION))
        out.append(call)
        self._held = held[end:]
        self._in = _In.AFTER
        return True

    def _after(self) -> bool:
        """Swallows the closing tag that belongs to the call, and the blank lines around it."""
        rest = self._held.lstrip()
        if rest.startswith(_CLOSE):
            self._held = rest[len(_CLOSE) :]
            return True
        if not rest or _CLOSE.startswith(rest):
            return False
        self._held = rest
        self._in = _In.TEXT
        self._begun = False  # the next call may follow in the bare form
        return True

    def _no_call(self, out: list[str | InlineCall | Thought], size: int) -> bool:
        out.append(self._held[:size])
        self._held = self._held[size:]
        self._in = _In.TEXT
        return bool(self._held)

    def _bare_step(self, out: list[str | InlineCall | Thought]) -> bool:
        start = self._held.lstrip()
        key = start[1:].lstrip()
        if key and not any(key.startswith(k) or k.startswith(key) for k in _BARE_KEYS):
            return self._not_bare()
        if len(start) > _HELD_AT_MOST:
            return self._not_bare()
        body = start.rstrip()
        if body.endswith("}") and body.count("{") <= body.count("}") and len(body) > self._tried:
            call = self._bare(body)
            if call is not None:
                out.append(call)
                self._held = ""
                self._in = _In.AFTER
                return False
            try:
                msgspec.json.decode(body)
            except msgspec.DecodeError:
                # Perhaps a brace in a string; try again only when the text has grown by a half.
                self._tried = len(body) * 3 // 2
                return False
            return self._not_bare()
        return False

    def _not_bare(self) -> bool:
        self._in = _In.TEXT
        self._begun = True
        return True

    # ---- the three forms ------------------------------------------------------------------------------------

    def _parse(self, text: str) -> InlineCall | None:
        inner = text.removeprefix(_OPEN).removesuffix(_CLOSE).strip()
        if inner.startswith("{"):
            return self._bare(inner)
        name = _NAME.match(inner)
        if name is None or name[1].strip() not in self._tools:
            return None
        tool = name[1].strip()
        properties = schemas.properties_of(self._tools[tool])
        arguments: dict[str, Any] = {}
        body = inner[name.end() :].removesuffix(_CLOSE).rstrip()
        end = body.rfind("</function>")
        body = body[:end] if end >= 0 else body
        covered = 0
        for parameter in _PARAMETER.finditer(body):
            key, value = parameter[1].strip(), parameter[2]
            value = value.removeprefix("\n").removesuffix("\n")
            arguments[key] = _typed(value, properties.get(key))
            covered = parameter.end()
        if "<parameter=" in body[covered:]:
            return None  # the last one was cut off: half a command is no command
        return InlineCall(tool, msgspec.json.encode(arguments).decode())

    def _bare(self, text: str) -> InlineCall | None:
        try:
            value = msgspec.json.decode(text.strip())
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
        if not isinstance(name, str) or name not in self._tools:
            return None
        if isinstance(arguments, str):
            try:
                arguments = msgspec.json.decode(arguments)
            except msgspec.DecodeError:
                return None
        if not isinstance(arguments, dict):
            return None
        return InlineCall(name, msgspec.json.encode(arguments).decode())


def _typed(value: str, schema: Any) -> Any:
    """A parameter's text as the type its schema wants; a string where it does not say."""
    types = schemas.types_of(schema)
    if types is None or "string" in types:
        return value
    try:
        return schemas.unquote(value, schema)
    except ValueError:
        return value


def _partial(text: str, mark: str) -> int:
    """Where a mark that is not complete yet may begin at the end of the text; its length when nowhere."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:size]):
            return len(text) - size
    return len(text)


def _partial_mark(text: str, position: int) -> int:
    return max(min(_partial(text, mark) for mark in _MARKS), position)
