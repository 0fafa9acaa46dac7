"""TOML and YAML, changed by whole lines; what the result says is read again before anybody writes it."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

import yaml

_SIMPLE = r"""("(?:[^"\\]|\\.)*"|'[^']*'|true|false|[0-9]+)"""


class NotPossible(ValueError):
    """The lines cannot be changed so that they say it, and why."""


def toml_with(text: str, top: Mapping[str, Any], table: str, content: Mapping[str, Any]) -> str:
    """top: values of the document itself. table: the dotted name of one that is not there yet. Raises NotPossible."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotPossible(f"it is no valid TOML: {error}") from None
    first = re.search(r"^\s*\[", text, re.MULTILINE)
    split = first.start() if first else len(text)
    head, rest = text[:split], text[split:]
    added = ""
    for key, value in top.items():
        if key not in document:
            added += f"{key} = {_toml(value)}\n"
            continue
        line = re.compile(rf"^(\s*{re.escape(key)}\s*=\s*){_SIMPLE}(?=\s*(?:#.*)?$)", re.MULTILINE)
        head, times = line.subn(lambda match, value=value: match[1] + _toml(value), head, count=1)  # type: ignore[misc]
        if not times:
            raise NotPossible(f"`{key}` does not stand on a line of its own")
    body = "".join(f"{key} = {_toml(value)}\n" for key, value in content.items())
    result = added + head + rest
    result += ("" if not result or result.endswith("\n") else "\n") + f"\n[{table}]\n{body}"
    outer, _, inner = table.partition(".")
    tables = document.get(outer, {})
    if not isinstance(tables, dict) or inner in tables:
        raise NotPossible(f"there is a `{table}` already")
    try:
        read = tomllib.loads(result)
    except tomllib.TOMLDecodeError as error:
        raise NotPossible(f"it would be no valid TOML any more: {error}") from None
    if read != {**document, **top, outer: {**tables, inner: dict(content)}}:
        raise NotPossible("its lines do not say what they seem to")
    return result


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)


def yaml_with_first(text: str, key: str, item: Mapping[str, Any], otherwise: Mapping[str, Any]) -> str:
    """item: goes before the others of the list `key`. otherwise: what an empty document also says.
    Raises NotPossible."""
    document = _yaml(text)
    if document is None:
        document, text = dict(otherwise), "".join(f"{name}: {json.dumps(one)}\n" for name, one in otherwise.items())
    if not isinstance(document, dict):
        raise NotPossible("it holds no mapping")
    items = document.get(key)
    if key not in document:
        text += "" if text.endswith("\n") else "\n"
        result = f"{text}{key}:\n{_item(item, '  ')}"
    else:
        place = re.search(rf"^{re.escape(key)}:[ \t]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*?(?=([ ]*)- )", text, re.MULTILINE)
        if place is None:
            raise NotPossible(f"`{key}` is no list with a line for each of its items")
        result = text[: place.end()] + _item(item, place[1]) + text[place.end() :]
    if _yaml(result) != {**document, key: [dict(item), *(items or [])]}:
        raise NotPossible("its lines do not say what they seem to")
    return result


def _item(item: Mapping[str, Any], indent: str) -> str:
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in item.items()]
    return f"{indent}- " + f"{indent}  ".join(lines)


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise NotPossible(f"it is no valid YAML: {error}") from None


def taken_out(original: str, written: str, now: str) -> str:
    """`now` with the lines put back that `written` changed in `original`. Raises NotPossible where these lines are
    not there as they were written, or more than once."""
    before, after, lines = (text.splitlines(keepends=True) for text in (original, written, now))
    for tag, left, right, low, high in difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        block = after[low:high]
        places = [at for at in range(len(lines)) if lines[at : at + len(block)] == block]
        if not block or len(places) != 1:
            raise NotPossible("what llmstack wrote there was changed since")
        lines[places[0] : places[0] + len(block)] = before[left:right]
    return "".join(lines)
