"""Tools of the Responses API as functions, and calls of those functions as its items.

| tool                         | here                                                                          |
| ---------------------------- | ----------------------------------------------------------------------------- |
| function                     | a function                                                                    |
| namespace (MCP, sub-agents)  | its functions, each called NAMESPACE__NAME; a call has both names again       |
| custom (apply_patch)         | a function of one text `input`, its grammar told in the description           |
| web_search                   | the server tool of that name: what the route does with such                   |
| any other of OpenAI's        | left out: nobody behind this proxy can run it                                 |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmstack.protocol.clients.neutral import CHOICES, one_at_a_time
from llmstack.protocol.errors import Refused, invalid

INPUT = "input"  # the one argument of a custom tool
_BETWEEN = "__"


@dataclass(frozen=True, slots=True)
class ToolShape:
    """How a call of a function is shown: its own name, its namespace or "", and whether it takes a text."""

    name: str
    namespace: str = ""
    takes_text: bool = False


def joined_name(namespace: Any, name: Any) -> str:
    return f"{namespace}{_BETWEEN}{name}" if isinstance(namespace, str) and namespace else str(name or "")


def to_tools(tools: Any) -> tuple[list[dict[str, Any]], dict[str, ToolShape]]:
    """Tools of a Messages request, and how calls of them are shown. Raises Refused."""
    functions: list[dict[str, Any]] = []
    shapes: dict[str, ToolShape] = {}
    for number, tool in enumerate(tools or ()):
        if not isinstance(tool, dict):
            raise Refused(invalid(f"tools[{number}]: an object is required"))
        for function, shape in _functions(tool, f"tools[{number}]"):
            functions.append(function)
            if shape is not None:
                shapes[function["name"]] = shape
    return functions, shapes


def _functions(tool: Mapping[str, Any], where: str) -> Iterator[tuple[dict[str, Any], ToolShape | None]]:
    kind = tool.get("type")
    if kind == "function":
        yield _function(tool, ToolShape(_name(tool, where)))
    elif kind == "namespace":
        namespace = _name(tool, where)
        for number, inner in enumerate(tool.get("tools") or ()):
            if isinstance(inner, dict) and inner.get("type") in ("function", "custom"):
                name = _name(inner, f"{where}.tools[{number}]")
                yield _function(inner, ToolShape(name, namespace, inner["type"] == "custom"))
    elif kind == "custom":
        yield _function(tool, ToolShape(_name(tool, where), takes_text=True))
    elif isinstance(kind, str) and kind.startswith("web_search"):
        filters = tool.get("filters")
        domains = filters.get("allowed_domains") if isinstance(filters, dict) else None
        yield {"type": "web_search_20250305", "name": "web_search", "allowed_domains": domains}, None


def _name(tool: Mapping[str, Any], where: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise Refused(invalid(f"{where}.name: a tool needs a name"))
    return name


def _function(tool: Mapping[str, Any], shape: ToolShape) -> tuple[dict[str, Any], ToolShape]:
    description = str(tool.get("description") or "")
    if shape.takes_text:
        description = f"{description}\n\n{_grammar(tool.get('format'))}".strip()
        schema: Any = {"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT]}
    else:
        schema = tool.get("parameters") or {"type": "object", "properties": {}}
    function = {
        "name": joined_name(shape.namespace, shape.name),
        "description": description,
        "input_schema": schema,
        **({"strict": True} if tool.get("strict") is True else {}),
    }
    return function, shape


def _grammar(form: Any) -> str:
    if not isinstance(form, dict) or form.get("type") != "grammar":
        return "Its input is one text."
    return f"Its input is one text by this {form.get('syntax') or ''} grammar:\n{form.get('definition') or ''}"


def to_choice(choice: Any, parallel: Any) -> dict[str, Any] | None:
    """The tool_choice of a Messages request."""
    result: dict[str, Any] | None = None
    if isinstance(choice, str):
        result = CHOICES.get(choice)
    elif isinstance(choice, dict) and choice.get("type") in ("function", "custom"):
        result = {"type": "tool", "name": joined_name(choice.get("namespace"), choice.get("name"))}
    elif isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        result = {"type": "any" if choice.get("mode") == "required" else "auto"}
    return one_at_a_time(result, parallel)
