"""Tools and tool_choice: functions for the upstream, schemas for the repair, and Anthropic's own tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from llmstack.protocol.anthropic import Tool
from llmstack.protocol.errors import Refused, invalid
from llmstack.protocol.limits import most
from llmstack.recent import Recent

ServerTools = Literal["explain", "drop", "refuse"]

# Anthropic runs these itself; nobody behind this proxy can.
_SERVER = ("web_search", "web_fetch", "code_execution", "tool_search_tool", "mcp_toolset", "advisor")
# The client runs these; Anthropic's models know their schema by heart, others must be told
# (docs.anthropic.com, "Bash tool", "Text editor tool", "Memory tool").
_KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "bash": (
        "Runs a command in a persistent bash session.",
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "description": "The command to run"},
                "restart": {"type": "boolean", "description": "Start the session afresh"},
            },
        },
    ),
    "text_editor": (
        "Views, creates and edits text files.",
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
                "path": {"type": "string"},
                "view_range": {"type": "array", "items": {"type": "integer"}},
                "file_text": {"type": "string"},
                "old_str": {"type": "string"},
                "new_str": {"type": "string"},
                "insert_line": {"type": "integer"},
                "insert_text": {"type": "string"},
            },
            "required": ["command", "path"],
        },
    ),
    "memory": (
        "Reads and writes notes below /memories.",
        {
            "type": "object",
            "properties": {
                "command": {
                    "type": "string",
                    "enum": ["view", "create", "str_replace", "insert", "delete", "rename"],
                },
                "path": {"type": "string"},
                "view_range": {"type": "array", "items": {"type": "integer"}},
                "file_text": {"type": "string"},
                "old_str": {"type": "string"},
                "new_str": {"type": "string"},
                "insert_line": {"type": "integer"},
                "insert_text": {"type": "string"},
                "old_path": {"type": "string"},
                "new_path": {"type": "string"},
            },
            "required": ["command"],
        },
    ),
    "computer": (
        "Uses the mouse and keyboard of a screen.",
        {
            "type": "object",
            "properties": {
                "action": {"type": "string"},
                "coordinate": {"type": "array", "items": {"type": "integer"}},
                "text": {"type": "string"},
            },
            "required": ["action"],
        },
    ),
}
_MAX_DEPTH = 24
_MAX_REPEAT = 256
# Nested or stacked repetitions make llama.cpp's grammar explode (llama.cpp#25308, #26600, #27619).
_WILD = re.compile(r"[+*}][+*{]|\)[+*{]|\{\d{3,}|\\[dDwWsSbB]?\{|\(\?[^:]|\\[1-9]")


@dataclass(frozen=True, slots=True)
class Toolbox:
    """functions: ready JSON of the `tools` array, or b"". schemas: by tool name. server: names of Anthropic's own."""

    functions: bytes
    schemas: Mapping[str, Any]
    server: tuple[str, ...]

    def arguments_schema(self, name: str) -> dict[str, Any]:
        """What the arguments of one tool must be, for an upstream that makes a grammar of it."""
        schema = bounded(self.schemas[name])
        return schema if {"type", "anyOf", "oneOf", "allOf", "$ref"} & schema.keys() else {"type": "object", **schema}


def is_server_tool(tool: Tool) -> bool:
    return tool.type is not None and tool.type.startswith(_SERVER)


def _known(tool: Tool) -> tuple[str, dict[str, Any]] | None:
    if tool.type in (None, "custom"):
        return None
    for name, schema in _KNOWN.items():
        if str(tool.type).startswith(name + "_"):
            return schema
    return None


class Toolboxes:
    """Translates a tools array once: the client sends the same 64 KB with each request."""

    def __init__(self, most: int = 12) -> None:
        self._toolboxes: Recent[tuple[bytes, bool, frozenset[str]], Toolbox] = Recent(most)

    def get(self, tools: list[Tool] | None, *, strict_grammar: bool, loaded: frozenset[str]) -> Toolbox:
        """strict_grammar: the upstream turns schemas into a grammar. loaded: deferred tools that its search gave."""
        if not tools:
            return _NONE
        key = (msgspec.json.encode(tools), strict_grammar, loaded)
        toolbox = self._toolboxes.get(key)
        if toolbox is None:
            toolbox = _translate(tools, strict_grammar, loaded)
            self._toolboxes.put(key, toolbox)
        return toolbox


_NONE = Toolbox(b"", {}, ())


def _translate(tools: list[Tool], strict_grammar: bool, loaded: frozenset[str]) -> Toolbox:
    functions: list[dict[str, Any]] = []
    schemas: dict[str, Any] = {}
    server: list[str] = []
    values = 0
    searchable = not any((tool.type or "").startswith("tool_search_tool") for tool in tools)
    for tool in tools:
        if is_server_tool(tool):
            server.append(tool.name or str(tool.type))
            continue
        # The client searches and says what it found; without its search every tool is shown.
        if tool.defer_loading and searchable and tool.name not in loaded:
            continue
        built_in = _known(tool)
        description = tool.description or (built_in[0] if built_in else "")
        schema = tool.input_schema if tool.input_schema is not None else (built_in[1] if built_in else None)
        if not isinstance(schema, dict):
            schema = {"type": "object", "properties": {}}
        name = tool.name or str(tool.type)
        schemas[name] = schema
        values = _count(schema, values)
        function: dict[str, Any] = {"name": name}
        if description:
            function["description"] = description
        function["parameters"] = bounded(schema) if strict_grammar else schema
        functions.append({"type": "function", "function": function})
    return Toolbox(msgspec.json.encode(functions) if functions else b"", schemas, tuple(server))


def _count(schema: Any, before: int) -> int:
    """Values of a schema and of those before it. Raises Refused for more than a server could make a grammar of."""
    count, rest = before, [schema]
    while rest:
        value = rest.pop()
        count += 1
        if count + len(rest) > (values := most("schema_values")):
            raise Refused(invalid(f"tools: their schemas have more than {values} values"))
        if isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list):
            rest += value
    return count


def bounded(schema: Any, depth: int = 0) -> Any:
    """The schema without what makes llama.cpp's grammar builder fail or run away; its meaning for the model stays.

    Only assertions are dropped (a pattern, a huge repetition), or everything below the 24th level.
    """
    if isinstance(schema, list):
        return [bounded(item, depth + 1) for item in schema] if depth < _MAX_DEPTH else []
    if not isinstance(schema, dict):
        return schema
    if depth >= _MAX_DEPTH:
        return {}
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "pattern" and isinstance(value, str):
            if len(value) > 200 or not (value.startswith("^") and value.endswith("$")) or _WILD.search(value):
                continue
        elif key in ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_REPEAT:
                continue
        elif key == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            continue
        result[key] = value if key in ("const", "default", "enum", "examples") else bounded(value, depth + 1)
    return result
