"""What the model behind a host says: one small script for all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

PONG = "PONG from the sub-agent"


@dataclass(frozen=True)
class Call:
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Turn:
    text: str = ""
    call: Call | None = None
    thinking: str = ""


def think(names: list[str], said: list[tuple[str, str]]) -> Turn:
    """names: of the tools on offer. said: (role, text) of the conversation; a tool's result has the role `tool`."""
    role, last = said[-1]
    users = "\n".join(text for speaker, text in said if speaker == "user")
    if role == "tool":
        return Turn(f"the tool said: {last[-400:]}")
    agent = next((name for name in ("Agent", "Task") if name in names), None)
    if "delegate" in users and agent is not None:
        asked: dict[str, Any] = {"description": "ping", "prompt": "SUBAGENT: say pong"}
        return Turn("", Call(agent, {**asked, "subagent_type": "general-purpose", "run_in_background": False}))
    if "SUBAGENT" in users:
        return Turn(PONG)
    if "search the web" in users and "WebSearch" in names:
        # An empty list beside a full one, as small models write it.
        asked = {"query": "capital of the USA", "allowed_domains": ["example.org"], "blocked_domains": []}
        return Turn("", Call("WebSearch", asked))
    if names == ["read_file"]:
        return Turn("", Call("read_file", {"path": "notes.txt"}))
    if "think hard" in users:
        return Turn("thought about it", thinking="hm, let me see")
    return Turn(f"hello from {'a colour' if 'violet' in users else 'the host'}")


def of_chat(body: dict[str, Any]) -> Turn:
    """Of a chat completion's request."""
    names = [tool["function"]["name"] for tool in body.get("tools", [])]
    return think(names, [(m["role"], _text(m.get("content"))) for m in body["messages"]])


def of_messages(body: dict[str, Any]) -> Turn:
    """Of a Messages request."""
    names = [tool.get("name", "") for tool in body.get("tools", [])]
    said: list[tuple[str, str]] = []
    result: tuple[str, str] | None = None  # of a tool, since the assistant last spoke
    for message in body["messages"]:
        if message["role"] == "assistant":
            result = None
        content = message["content"]
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        for block in blocks:
            if block["type"] == "tool_result":
                result = ("tool", _text(block.get("content")))
            elif block["type"] == "text":
                said.append((message["role"], block["text"]))
    return think(names, said if result is None else [*said, result])


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content)
    return str(content or "")


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
