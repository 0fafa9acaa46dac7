"""What no chat completion has a place for, in words: results of Anthropic's own tools, of MCP servers, of searches.

A conversation may have begun at Anthropic and go on here. What the other model knew from it, this one has to know too:
the text of every member is told, whatever its block is called. Left out is only what nobody but Anthropic's servers can
read, and what is no content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llmstack.protocol.anthropic import ContentBlock
from llmstack.protocol.document import blocks_of, document_text

DOCUMENT = "document"
# Members that are the text itself; any other is told with its name before it.
_PLAIN = frozenset({"text", "content", "title", "url", "source", "page_age", "lines", "tool_references", "tool_name"})
_NO_CONTENT = frozenset(
    {"type", "cache_control", "citations", "signature", "retrieved_at", "num_lines", "start_line", "total_lines"}
)
_KINDS = frozenset(
    {
        "search_result", "server_tool_use", "mcp_tool_use", "mcp_tool_listing", "container_upload", "browser_state",
        "fallback", "tool_reference",
    }
)  # fmt: skip


def is_told(kind: str) -> bool:
    return kind in _KINDS or (kind.endswith("_tool_result") and kind != "tool_result")


def told(block: ContentBlock, documents: Mapping[str, str] | None, where: str) -> str:
    """A block of such a kind as text; "" for one that says nothing. Raises Refused for a document of a wrong shape."""
    kind = block.type
    if kind == "server_tool_use":
        return f"[{block.name}: {_json(block.input)}]"
    if kind == "mcp_tool_use":
        name = f"{block.server_name}.{block.name}" if block.server_name else block.name
        return f"[{name}: {_json(block.input)}]"
    if kind == "mcp_tool_listing":
        names = ", ".join(_names(block.tools))
        return f"[tools of the MCP server {block.mcp_server_name}: {names}]"
    if kind == "container_upload":
        return "[an uploaded file that this stack has no access to]"
    if kind == "fallback":  # which of two models answered: Messages API, "accepted, not rendered"
        return ""
    if kind == "tool_reference":
        return f"[tool {block.tool_name} can be called now]"
    if kind == "browser_state":
        return f"[browser: {_json([block.tabs, block.state_changes])}]"
    texts = _Texts(documents, where)
    if kind == "search_result":
        head = "\n".join(part for part in (block.title, block.source) if isinstance(part, str) and part)
        texts.add(block.content)
        return "\n".join([head, *texts.lines]).strip()
    texts.add(block.content)
    head = f"[{kind}]" if not block.is_error else f"[{kind}: an error]"
    return "\n".join([head, *texts.lines])


class _Texts:
    """The texts of a value of any shape, in their order."""

    def __init__(self, documents: Mapping[str, str] | None, where: str) -> None:
        self.lines: list[str] = []
        self._documents = documents
        self._where = where

    def add(self, value: Any) -> None:
        if isinstance(value, str):
            if value:
                self.lines.append(value)
        elif isinstance(value, list):
            for item in value:
                self.add(item)
        elif isinstance(value, dict):
            self._object(value)

    def _object(self, value: dict[str, Any]) -> None:
        kind = value.get("type")
        if kind == "web_search_result":
            age = value.get("page_age")
            line = f"- {value.get('title') or ''} {value.get('url') or ''}".rstrip()
            self.lines.append(f"{line} ({age})" if isinstance(age, str) else line)
            return
        if kind == DOCUMENT and isinstance(value.get("source"), dict):
            (block,) = blocks_of([value], self._where)
            self.lines.append(document_text(block, self._documents, self._where))
            return
        if isinstance(value.get("error_code"), str):
            self.lines.append(f"error: {value['error_code']}")
        for name, member in value.items():
            if name in _NO_CONTENT or name == "error_code" or member is None:
                continue
            if name.startswith("encrypted"):
                self.lines.append("[a part that only Anthropic's servers can read]")
            elif name in _PLAIN and not isinstance(member, bool | int | float):
                self.add(member)
            elif isinstance(member, str):
                if member:
                    self.lines.append(f"{name}: {member}")
            elif isinstance(member, bool | int | float):
                self.lines.append(f"{name}: {_json(member)}")
            else:
                self.add(member)


def _names(tools: Any) -> list[str]:
    return [str(tool.get("name")) for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
