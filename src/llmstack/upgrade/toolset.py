"""The tools that an engine is tried with, in the form of the Messages API. Pure but for `remembered`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.paths import Home
from llmstack.workload import agent_prompt

Tool = dict[str, Any]
LARGE_BYTES = 150_000
_PREFIX_BYTES = 16 << 20  # a remembered prefix is a request: the proxy takes no larger one


@dataclass(frozen=True, slots=True)
class Toolset:
    """tools with the system text that goes before them; source: whose they are, in words."""

    source: str
    system: str
    tools: tuple[Tool, ...]

    def named(self, *names: str) -> tuple[Tool, ...]:
        """Those of these names, else the first ones."""
        return tuple(tool for tool in self.tools if tool["name"] in names) or self.tools[: len(names)]


def remembered(home: Home) -> Toolset | None:
    """The system text and tools that the user's client sent last, as the warm start keeps them; None: it sent none."""
    files = sorted(home.slots.glob("*.prefix"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files:
        try:
            if path.stat().st_size > _PREFIX_BYTES:
                continue
            body = msgspec.json.decode(path.read_bytes())["body"]
            tools = tuple(_as_message_tool(tool["function"]) for tool in body.get("tools") or ())
            system = next((m["content"] for m in body["messages"] if m.get("role") == "system"), "")
        except (OSError, msgspec.DecodeError, KeyError, TypeError, AttributeError):
            continue
        if len(tools) > 1 and isinstance(system, str):
            return Toolset("the tools your client sends", system, tools)
    return None


def _as_message_tool(function: dict[str, Any]) -> Tool:
    return {
        "name": function["name"],
        "description": function.get("description") or "",
        "input_schema": function.get("parameters") or {"type": "object"},
    }


def _tool(name: str, description: str, required: tuple[str, ...] = (), **properties: Any) -> Tool:
    schema = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return {"name": name, "description": description, "input_schema": schema}


_TEXT = {"type": "string"}
_NUMBER = {"type": "integer", "minimum": 0}
_YES_NO = {"type": "boolean"}


def own() -> Toolset:
    """Tools of a coding agent's kinds, for a stack that no client has used yet."""
    tools = (
        _tool("Read", "Reads a file.", ("file_path",), file_path=_TEXT, offset=_NUMBER, limit=_NUMBER),
        _tool("Write", "Writes a file.", ("file_path", "content"), file_path=_TEXT, content=_TEXT),
        _tool("Edit", "Replaces a text in a file by another.", ("file_path", "old_string", "new_string"),
              file_path=_TEXT, old_string=_TEXT, new_string=_TEXT, replace_all={**_YES_NO, "default": False}),
        _tool("Bash", "Runs a command.", ("command",), command=_TEXT, timeout={"type": "number", "maximum": 600_000},
              run_in_background=_YES_NO),
        _tool("Glob", "Finds files by a pattern.", ("pattern",), pattern=_TEXT, path=_TEXT),
        _tool("Grep", "Finds lines in files.", ("pattern",), pattern=_TEXT, glob=_TEXT,
              output_mode={"type": "string", "enum": ["content", "files", "count"]}, context=_NUMBER),
        _tool("Fetch", "Reads a page.", ("url",), url={"type": "string", "format": "uri"}, prompt=_TEXT),
        _tool("Tasks", "Keeps the list of tasks.", ("tasks",), tasks={"type": "array", "minItems": 1, "items": {
            "type": "object", "required": ["text", "state"],
            "properties": {"text": {"type": "string", "minLength": 1},
                           "state": {"type": "string", "enum": ["open", "doing", "done"]}}}}),
    )  # fmt: skip
    return Toolset("tools of a coding agent's kinds (no client has used this stack yet)", agent_prompt(6000, 7), tools)


EXACT: tuple[tuple[Tool, dict[str, Any]], ...] = tuple(
    # Every value is given by the schema, so any model that is held to it makes exactly this call.
    (
        _tool(
            f"set_{name}", "Sets a value.", tuple(values), **{key: {"enum": [value]} for key, value in values.items()}
        ),
        values,
    )
    for name, values in (
        ("level", {"level": "high"}),
        ("path", {"path": "/srv/data/a b.txt", "mode": "append"}),
        ("text", {"text": 'says "no" and\nnothing more'}),
    )
)


def large(tools: tuple[Tool, ...], size: int = LARGE_BYTES) -> tuple[Tool, ...]:
    """These tools and as many more, each with a page of description, as make `size` bytes of JSON."""
    grown, number = list(tools), 0
    have = len(json.dumps(grown))
    while have < size:
        number += 1
        extra = _tool(f"helper_{number}", agent_prompt(3000, number), ("subject",), subject=_TEXT, depth=_NUMBER)
        grown.append(extra)
        have += len(json.dumps(extra)) + 2
    return tuple(grown)


def _object(*required: str, defs: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": list(required)}
    return schema | ({"$defs": defs} if defs else {})


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "enum": ["end"]}
    for _ in range(depth):
        schema = _object("inner", inner=schema)
    return schema


_MARKS = 'größe "x"'
_PAIRS = {"type": "array", "maxItems": 2, "items": _YES_NO}

# Schemas of kinds that ended in "failed to parse grammar" in one build of llama.cpp or another.
HARD: dict[str, dict[str, Any]] = {
    "no arguments": _object(),
    "an object of anything": _object("any", any={"type": "object"}),
    "a very long text allowed": _object(t={"type": "string", "maxLength": 100_000}),
    "a pattern": _object("d", d={"type": "string", "pattern": "^\\d{4}-\\d{2}$"}),
    "a pattern that looks ahead": _object(d={"type": "string", "pattern": "^(?!x).*$"}),
    "one of two kinds": _object("v", v={"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}]}),
    "several types": _object("v", v={"type": ["string", "null"], "enum": ["a", None]}),
    "a schema that names itself": _object(
        n={"$ref": "#/$defs/n"}, defs={"n": _object(next={"$ref": "#/$defs/n"}, v={"type": "integer"})}
    ),
    "names with marks": _object("a.b", _MARKS, **{"a.b": _YES_NO, _MARKS: _YES_NO}),
    "values with marks": _object("v", v={"enum": ["\\", '"', "[x]", "ü\n"]}),
    "twelve objects deep": _nested(12),
    "a list with bounds": _object("l", l={"type": "array", "minItems": 1, "maxItems": 3, "items": _PAIRS}),
    "a fixed list": _object("l", l={"type": "array", "prefixItems": [{"const": 1}, {"const": "b"}]}),
    "formats": _object(u={"type": "string", "format": "uuid"}, d={"type": "string", "format": "date-time"}),
}


def hard_tool(schema: dict[str, Any]) -> Tool:
    return {"name": "try_schema", "description": "Takes what the schema allows.", "input_schema": schema}
