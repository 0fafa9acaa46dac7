"""What a scripted upstream says to the real Claude Code, turn by turn."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from support.streams import DONE, finish, tool, usage
from support.upstream import Asked, Wire, aside, say


def is_main(asked: Asked) -> bool:
    """The main loop sends all its tools; titles and summaries send none or few."""
    return asked.path == "/v1/chat/completions" and len(asked.json.get("tools", [])) > 5


def results(asked: Asked) -> list[str]:
    """What the tools returned so far, in the order in which the model sees it."""
    return [str(m["content"]) for m in asked.json["messages"] if m["role"] == "tool"]


def call(name: str, arguments: str, number: int = 0, call_id: str = "") -> bytes:
    return tool(number, call_id or f"call_{name.lower()}_{number}_{os.urandom(4).hex()}", name, arguments)


def turn(*calls: bytes) -> bytes:
    """A whole answer that calls tools."""
    return b"".join(calls) + finish("tool_calls") + usage(1000, 20) + DONE


def conversation(*turns: bytes | Callable[[Asked], bytes], side: str = "ok") -> Any:
    """The n-th request of the main loop gets the n-th turn, counted by the tool turns the model has behind it."""

    async def script(asked: Asked, wire: Wire) -> None:
        if asked.path != "/v1/chat/completions":
            await aside(asked, wire)
        elif not is_main(asked):
            await wire.stream(say(side))
        else:
            behind = sum(1 for m in asked.json["messages"] if m["role"] == "assistant" and m.get("tool_calls"))
            step = turns[min(behind, len(turns) - 1)]
            await wire.stream(step(asked) if callable(step) else step)

    return script
