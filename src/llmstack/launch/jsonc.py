"""JSON with comments, changed in its text: what is not ours stays as it stands, comments and order and spaces too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_SPACE = " \t\r\n"
DEEPEST = 64  # of what is read; a settings file has five


class NotJson(ValueError):
    """What stands there cannot be read, and where."""


@dataclass(frozen=True, slots=True)
class _Member:
    """Offsets of a member's key and value; value_end is behind it."""

    key: str
    start: int
    value: int
    value_end: int


def parse(text: str) -> dict[str, Any]:
    """Raises NotJson for what is no object."""
    try:
        document = json.loads(_plain(text)) if text.strip() else {}
    except (json.JSONDecodeError, RecursionError) as error:
        raise NotJson(str(error)) from None
    if not isinstance(document, dict):
        raise NotJson("it holds no object")
    return document


def with_value(text: str, path: Sequence[str], value: Any) -> str:
    """The text with this value at the path; its tables are there, but for the last key. Raises NotJson."""
    if not text.strip():
        text = "{}\n"
    start = _table(text, path)
    members = list(_members(text, start))
    there = [member for member in members if member.key == path[-1]]
    if there:
        return text[: there[-1].value] + _encoded(text, there[-1].start, value) + text[there[-1].value_end :]
    if not members:
        line = _indent(text, start)
        entry = f"\n{line}  {json.dumps(path[-1])}: {_shown(value, line + '  ')}\n{line}"
        return text[: start + 1] + entry + text[start + 1 :].lstrip(" ")
    first = members[0].start
    before = text[start + 1 : first]
    if "\n" not in before:
        return text[:first] + f"{json.dumps(path[-1])}: {json.dumps(value, ensure_ascii=False)}, " + text[first:]
    line = before[before.rindex("\n") + 1 :]
    return text[:first] + f"{json.dumps(path[-1])}: {_shown(value, line)},\n{line}" + text[first:]


def without(text: str, path: Sequence[str]) -> str:
    """The text without this member and the comma that it had. Raises NotJson."""
    start = _table(text, path)
    members = list(_members(text, start))
    numbers = [number for number, member in enumerate(members) if member.key == path[-1]]
    if not numbers:
        return text
    number = numbers[-1]
    if number + 1 < len(members):
        return text[: members[number].start] + text[members[number + 1].start :]
    if number:
        return text[: members[number - 1].value_end] + text[members[number].value_end :]
    return text[: start + 1] + text[members[number].value_end :].lstrip(" \t\n,")


def _table(text: str, path: Sequence[str]) -> int:
    """Where the object that holds the last key begins."""
    start = _skip(text, 0)
    for key in path[:-1]:
        there = [member for member in _members(text, start) if member.key == key]
        if not there:
            raise NotJson(f"there is no {key}")
        start = there[-1].value
    if text[start : start + 1] != "{":
        raise NotJson(f"{'.'.join(path[:-1]) or 'the whole'} is no object")
    return start


def _encoded(text: str, at: int, value: Any) -> str:
    return _shown(value, _indent(text, at)) if isinstance(value, dict) else json.dumps(value, ensure_ascii=False)


def _shown(value: Any, indent: str) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n" + indent)


def _indent(text: str, at: int) -> str:
    """The spaces that the line of this offset begins with."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _members(text: str, start: int) -> Iterator[_Member]:
    if text[start : start + 1] != "{":
        raise NotJson(f"no object at {start}")
    at = _skip(text, start + 1)
    while text[at : at + 1] != "}":
        end = _string_end(text, at)
        key = json.loads(text[at:end])
        colon = _skip(text, end)
        if text[colon : colon + 1] != ":":
            raise NotJson(f"no colon at {colon}")
        value = _skip(text, colon + 1)
        value_end = _value_end(text, value, 0)
        yield _Member(key, at, value, value_end)
        at = _skip(text, value_end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "}":
            raise NotJson(f"no comma at {at}")


def _value_end(text: str, at: int, depth: int) -> int:
    if depth > DEEPEST:
        raise NotJson("it is nested too deeply")
    first = text[at : at + 1]
    if first == '"':
        return _string_end(text, at)
    if first not in ("{", "["):
        end = at
        while end < len(text) and text[end] not in _SPACE + ",]}/":
            end += 1
        if end == at:
            raise NotJson(f"no value at {at}")
        return end
    at = _skip(text, at + 1)
    while text[at : at + 1] not in ("}", "]", ""):
        at = _skip(text, at + 1 if text[at] in ",:" else _value_end(text, at, depth + 1))
    return at + 1


def _string_end(text: str, at: int) -> int:
    if text[at : at + 1] != '"':
        raise NotJson(f"no string at {at}")
    end = at + 1
    while text[end : end + 1] not in ('"', ""):
        end += 2 if text[end] == "\\" else 1
    return end + 1


def _skip(text: str, at: int) -> int:
    """Behind spaces and comments."""
    while at < len(text):
        if text[at] in _SPACE:
            at += 1
        elif text.startswith(("//", "/*"), at):
            at = _comment_end(text, at)
        else:
            break
    return at


def _comment_end(text: str, at: int) -> int:
    mark = "\n" if text.startswith("//", at) else "*/"
    end = text.find(mark, at + 2)
    return len(text) if end < 0 else end + (0 if mark == "\n" else 2)


def _plain(text: str) -> str:
    """Without comments, and without a comma behind the last member."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == '"':
            end = _string_end(text, at)
            parts.append(text[at:end])
        elif text.startswith(("//", "/*"), at):
            end = _comment_end(text, at)
            parts.append(" ")
        else:
            end = at + 1
            if text[at] != "," or text[_skip(text, end) :][:1] not in ("}", "]"):
                parts.append(text[at])
        at = end
    return "".join(parts)
