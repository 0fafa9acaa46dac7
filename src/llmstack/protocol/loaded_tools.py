"""Tools that a client loads on its way, for an engine that keeps the conversation in its cache.

A template writes the tools in front of the conversation, so with one tool more all of it is read again. Where a client
holds tools back (Claude Code's ToolSearch), the model has one function more instead, from the first request on: it
calls any tool by name. The list stays as it is for the whole conversation.

| where                              | what stands there                                                        |
| ---------------------------------- | ------------------------------------------------------------------------ |
| the list of tools, behind the last | call_loaded_tool                                                         |
| the result that loads a tool       | its name, description and schema, and that it is called by that function |
| what the model generates           | call_loaded_tool {"name": "WebSearch", "arguments": {…}}                 |
| what the client gets, and sends    | WebSearch {…}                                                            |
"""

from __future__ import annotations

from typing import Any

import msgspec

from llmstack.protocol.anthropic import Tool
from llmstack.protocol.json_text import value_of

CALLER = "call_loaded_tool"
_DESCRIPTION = (
    "Calls a tool that was loaded in this conversation: the result that loaded it has its name and the schema of its "
    "arguments. Tools of this list are called directly."
)
_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "The name of the loaded tool"},
        "arguments": {"type": "object", "description": "Its arguments, as its own schema has them"},
    },
    "required": ["name", "arguments"],
}


def caller() -> Tool:
    """The function that calls a loaded tool."""
    return Tool(name=CALLER, description=_DESCRIPTION, input_schema=_SCHEMA)


def introduction(tool: Tool) -> str:
    """What the model reads where a tool is loaded; the same tool always gives the same text."""
    function = {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema or {}}
    how = f'{CALLER} {{"name": {_json(tool.name)}, "arguments": …}}'
    return f"[tool {tool.name} is loaded; call it by {how}]\n{_json(function)}"


def wrapped(name: str, arguments: msgspec.Raw) -> str:
    """The arguments of the function, for a call that the model has not generated so."""
    return _json({"name": name, "arguments": arguments})


def unwrapped(arguments: str) -> tuple[str, str] | None:
    """The tool that is meant, and its arguments as JSON; None where none is named.

    A model may put them in quotes, or beside the name.
    """
    try:
        value = value_of(arguments)
        if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"].strip():
            return None
        inner = value["arguments"] if "arguments" in value else {key: value[key] for key in value if key != "name"}
        if isinstance(inner, str):
            inner = value_of(inner or "{}")
    except msgspec.DecodeError:
        return None
    return (value["name"].strip(), _json(inner)) if isinstance(inner, dict) else None


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
