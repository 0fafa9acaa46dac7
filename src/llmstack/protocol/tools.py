"""Tools: functions for the upstream, schemas for the repair, and Anthropic's own tools."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from llmstack.protocol.anthropic import Tool
from llmstack.protocol.errors import Refused, invalid, unsupported
from llmstack.protocol.grammatical import grammatical, opened
from llmstack.protocol.limits import most
from llmstack.protocol.schema import is_strict
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
_NAMES = {"text_editor": "str_replace_based_edit_tool"}  # where the tool's own name is another than its kind's
_LONGEST_NAME = 64  # OpenAI's reference, "tools"; Anthropic's names may have 128 characters, and MCP's get there
_FIT = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Toolbox:
    """functions: ready JSON of the `tools` array, or b"". schemas: by the name that the upstream gets. server: names of
    Anthropic's own. names: the client's name, where the upstream gets another one. caller: the function that calls
    others by name, or ""."""

    functions: bytes
    schemas: Mapping[str, Any]
    server: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    caller: str = ""

    def calling(self, others: Toolbox, caller: str) -> Toolbox:
        """With the tools of another one, which its function `caller` calls by name."""
        return replace(self, schemas={**others.schemas, **self.schemas}, caller=caller)

    def arguments_schema(self, name: str) -> dict[str, Any]:
        """What the arguments of one tool must be, for an upstream that makes a grammar of it."""
        schema = grammatical(self.schemas[name])
        return schema if {"type", "anyOf", "oneOf", "allOf", "$ref"} & schema.keys() else {"type": "object", **schema}


def is_server_tool(tool: Tool) -> bool:
    return tool.type is not None and tool.type.startswith(_SERVER)


def sent_name(name: str) -> str:
    """The name as OpenAI and hosts that copy it take one: a longer one, or one with other characters, is cut and told
    apart by a digest. The same name always becomes the same."""
    if _FIT.match(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9_-]', '_', name)[: _LONGEST_NAME - 9]}_{digest}"


def _built_in(tool: Tool, where: str) -> tuple[str, str, dict[str, Any]]:
    """Name, description and schema of a tool that the client runs and Anthropic's models know by heart. Raises
    Refused."""
    kind = str(tool.type)
    for name, (description, schema) in _KNOWN.items():
        if kind.startswith(name + "_") and "_toolset_" not in kind:
            return _NAMES.get(name, name), description, schema
    if isinstance(tool.input_schema, dict):
        return kind, "", tool.input_schema
    raise Refused(
        unsupported(f"{where}.type: {kind!r} is known to Anthropic's models alone; others need its input_schema")
    )


class Toolboxes:
    """Translates a tools array once: the client sends the same 64 KB with each request."""

    def __init__(self, most: int = 12) -> None:
        self._toolboxes: Recent[tuple[bytes, bool, frozenset[str]], Toolbox] = Recent(most)

    def get(self, tools: list[Tool], *, llama_server: bool, open_tools: frozenset[str] = frozenset()) -> Toolbox:
        """llama_server: schemas become a grammar there, and any name will do. open_tools: but not theirs.

        Raises Refused."""
        if not tools:
            return _NONE
        key = (msgspec.json.encode(tools), llama_server, open_tools)
        toolbox = self._toolboxes.get(key)
        if toolbox is None:
            toolbox = _translate(tools, llama_server, open_tools)
            self._toolboxes.put(key, toolbox)
        return toolbox


_NONE = Toolbox(b"", {}, ())


def _translate(tools: list[Tool], llama_server: bool, open_tools: frozenset[str]) -> Toolbox:
    functions: list[dict[str, Any]] = []
    schemas: dict[str, Any] = {}
    names: dict[str, str] = {}
    server: list[str] = []
    values = 0
    for number, tool in enumerate(tools):
        if is_server_tool(tool):
            server.append(tool.name or str(tool.type))
            continue
        name, description, schema = tool.name, tool.description or "", tool.input_schema
        if tool.type not in (None, "custom"):
            own_name, own_description, own_schema = _built_in(tool, f"tools[{number}]")
            name, description = name or own_name, description or own_description
            schema = schema if schema is not None else own_schema
        if not isinstance(schema, dict):
            schema = {"type": "object", "properties": {}}
        if tool.input_examples:
            examples = "\n".join(msgspec.json.encode(example).decode() for example in tool.input_examples)
            description = f"{description}\n\nExamples of its input:\n{examples}".strip()
        sent = name if llama_server else sent_name(name)
        if sent != name:
            names[sent] = name
        schemas[sent] = schema
        values = _count(schema, values)
        function: dict[str, Any] = {"name": sent}
        if description:
            function["description"] = description
        function["parameters"] = (
            schema if not llama_server else opened(schema) if sent in open_tools else grammatical(schema)
        )
        if tool.strict and not llama_server and is_strict(schema):
            function["strict"] = True
        functions.append({"type": "function", "function": function})
    return Toolbox(msgspec.json.encode(functions) if functions else b"", schemas, tuple(server), names)


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
