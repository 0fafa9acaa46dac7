"""Asks a stack as an agent would: a long system text, tools, a session of its own; and reads what was reused."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

TOOL = {
    "name": "look_up",
    "description": "Looks a word up.",
    "input_schema": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}


def rules(topic: str, lines: int = 150) -> str:
    """A system text of some 2,500 tokens for 150 lines; another topic differs from the first word."""
    told = (f"{topic}: rule {n} is about case {n * 7919 % 1000} and its {n * 31 % 97} parts." for n in range(lines))
    return "\n".join(told)


@dataclass(frozen=True)
class Answer:
    """text: all text blocks. total and cached: tokens of the prompt; output: of the answer.

    first_s: seconds to the first piece of text.
    """

    text: str
    total: int
    cached: int
    first_s: float
    content: list[dict[str, Any]] = field(default_factory=list)
    output: int = 0

    @property
    def computed(self) -> int:
        return self.total - self.cached


@dataclass
class Talker:
    url: str
    token: str
    topic: str = "Gardening"
    session: str = "session-1"
    agent: str = ""
    lines: int = 150

    def ask(self, *messages: Any, max_tokens: int = 12, **more: Any) -> Answer:
        """messages: strings become user turns."""
        turns = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
        body = {
            "model": "m",
            "max_tokens": max_tokens,
            "temperature": 0,
            "system": rules(self.topic, self.lines),
            "tools": [TOOL],
            "messages": turns,
            "stream": True,
            **more,
        }
        headers = {"x-api-key": self.token, "x-claude-code-session-id": self.session}
        if self.agent:
            headers["x-claude-code-agent-id"] = self.agent
        began = time.monotonic()
        first: float | None = None
        text: list[str] = []
        usage: dict[str, int] = {}
        blocks: dict[int, dict[str, Any]] = {}
        with httpx.stream("POST", f"{self.url}/v1/messages", json=body, headers=headers, timeout=180) as response:
            assert response.status_code == 200, response.read()
            for line in response.iter_lines():
                if not line.startswith("data: "):
                    continue
                event = json.loads(line.removeprefix("data: "))
                assert event["type"] != "error", event
                usage |= event.get("message", {}).get("usage") or {}  # where llama-server counts the prompt
                usage |= event.get("usage") or {}
                if event["type"] == "content_block_start":
                    blocks[event["index"]] = {**event["content_block"], "json": ""}
                delta = event.get("delta", {})
                if "text" in delta:
                    first = first or time.monotonic() - began
                    text.append(delta["text"])
                if "partial_json" in delta:
                    first = first or time.monotonic() - began
                    blocks[event["index"]]["json"] += delta["partial_json"]
        cached = usage.get("cache_read_input_tokens", 0)
        content = [_block(block, "".join(text)) for _, block in sorted(blocks.items())]
        return Answer(
            "".join(text), usage["input_tokens"] + cached, cached, first or 0.0, content, usage["output_tokens"]
        )


def _block(block: dict[str, Any], text: str) -> dict[str, Any]:
    if block["type"] == "tool_use":
        return {**{k: block[k] for k in ("type", "id", "name")}, "input": json.loads(block["json"] or "{}")}
    return {"type": "text", "text": text}


def events(log: Path, name: str) -> list[dict[str, Any]]:
    """The lines of this event in a proxy's log file."""
    found = []
    for line in log.read_text().splitlines():
        start = line.find("{")
        if start >= 0 and '"event"' in line:
            event = json.loads(line[start:])
            if event.get("event") == name:
                found.append(event)
    return found
