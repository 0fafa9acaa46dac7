"""Which tools a conversation has by now: those of the request, those it loaded, those it was given and lost on its way.

What comes later stands behind what was there: a prompt begins with its tools, and what stays in its place is found in
the upstream's cache. A tool that is taken away leaves the list all the same, at the price of that cache.

Sources: Messages API, "Mid-conversation system messages", "Tool search tool".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from llmstack.protocol.anthropic import ContentBlock, Message, MessagesRequest, Tool
from llmstack.protocol.errors import Refused, invalid
from llmstack.protocol.loaded_tools import CALLER, caller

_SEARCH = "tool_search_tool"
_OF_SERVERS = ("mcp_tool_reference", "mcp_toolset_reference")  # tools of MCP servers that Anthropic would call


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """listed: in the order in which they came. by_name: those that loaded_tools.CALLER, the last one listed, calls."""

    listed: list[Tool]
    by_name: dict[str, Tool] = field(default_factory=dict)


def offered_tools(request: MessagesRequest, *, keep_list: bool) -> OfferedTools:
    """keep_list: what is loaded must not change the list (loaded_tools.py). Raises Refused for a change that names no
    tool."""
    tools = request.tools or []
    declared = _declared(tools)
    # The client searches and says what it found; without its search every tool is shown.
    searchable = not any(tool.type and tool.type.startswith(_SEARCH) for tool in tools)
    deferred = {name: tool for name, tool in declared.items() if tool.defer_loading and searchable}
    offered = {name: tool for name, tool in declared.items() if name not in deferred}
    by_name = deferred if keep_list and CALLER not in declared else {}
    for where, change, tool in _changes(request):
        if isinstance(tool, Tool):
            declared[tool.name] = tool
            offered.pop(tool.name, None)
            (by_name or offered)[tool.name] = tool
        elif change == "load":
            if tool in declared and tool not in by_name:
                offered.setdefault(tool, declared[tool])
        elif tool not in declared:
            raise Refused(invalid(f"{where}.tool.name: {tool!r} is none of the tools"))
        elif change == "remove":
            offered.pop(tool, None)
        elif tool not in by_name:
            offered.setdefault(tool, declared[tool])
    return OfferedTools([*offered.values(), caller()] if by_name else list(offered.values()), by_name)


def _declared(tools: list[Tool]) -> dict[str, Tool]:
    """By name. Raises Refused for tools without one, and for two of one name."""
    declared: dict[str, Tool] = {}
    for number, tool in enumerate(tools):
        name = tool.name or (tool.type if tool.type not in (None, "custom") else "")
        if not name:
            raise Refused(invalid(f"tools[{number}].name: a tool needs a name"))
        if name in declared:
            raise Refused(invalid(f"tools[{number}].name: there is another tool called {name!r}"))
        declared[name] = tool
    return declared


def added_tools(message: Message) -> Iterator[str]:
    """The names of those that a message adds."""
    for block in message.content if not isinstance(message.content, str) else ():
        for _, change, tool in _change(block.type, block.tool, "") if block.type == "tool_addition" else ():
            if change == "add":
                yield tool.name if isinstance(tool, Tool) else tool


def _changes(request: MessagesRequest) -> Iterator[tuple[str, str, str | Tool]]:
    """Where, which change (load, add, remove), and the tool: by name, or as it is defined there. Raises Refused."""
    for number, message in enumerate(request.messages):
        if isinstance(message.content, str):
            continue
        for at, block in enumerate(message.content):
            where = f"messages[{number}].content[{at}]"
            if block.type in ("tool_result", "tool_search_tool_result"):
                for name in _references(block.content):
                    yield where, "load", name
            elif block.type in ("tool_addition", "tool_removal"):
                yield from _change(block.type, block.tool, where)
            elif block.type == "compaction":
                yield from _kept_changes(block, where)


def _kept_changes(block: ContentBlock, where: str) -> Iterator[tuple[str, str, str | Tool]]:
    """Those that a summary stands for."""
    for number, change in enumerate(block.tool_changes if isinstance(block.tool_changes, list) else ()):
        if isinstance(change, dict) and change.get("type") in ("tool_addition", "tool_removal"):
            yield from _change(change["type"], change.get("tool"), f"{where}.tool_changes[{number}]")


def _references(content: Any) -> Iterator[str]:
    """Tools that a search found."""
    if isinstance(content, dict):
        content = content.get("tool_references")
    for item in content if isinstance(content, list) else ():
        if isinstance(item, dict) and item.get("type") == "tool_reference" and isinstance(item.get("tool_name"), str):
            yield item["tool_name"]


def _change(kind: str, tool: Any, where: str) -> Iterator[tuple[str, str, str | Tool]]:
    reference = tool.get("type") if isinstance(tool, dict) else None
    if reference in _OF_SERVERS:
        return
    if reference == "tool_reference" and isinstance(tool.get("name"), str):
        yield where, "add" if kind == "tool_addition" else "remove", tool["name"]
    elif reference == "tool_definition" and kind == "tool_addition":
        yield where, "add", _defined(tool.get("definition"), where)
    else:
        raise Refused(invalid(f"{where}.tool: a tool_reference by name, or a tool_definition, is required"))


def _defined(definition: Any, where: str) -> Tool:
    try:
        tool = msgspec.convert(definition, Tool)
    except msgspec.ValidationError as error:
        raise Refused(invalid(f"{where}.tool.definition: {error}")) from None
    if not tool.name:
        raise Refused(invalid(f"{where}.tool.definition.name: a tool needs a name"))
    return tool
