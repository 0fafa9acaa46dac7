"""Runs the real Claude Code client in a clean environment against a running proxy."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxying.recorded import DONE, finish, text, tool, usage
from proxying.stand import TOKEN, Stand
from proxying.upstream import Asked, Wire, aside, say


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Claude:
    """program: the client. home and work: folders of its own."""

    program: Path
    home: Path
    work: Path

    def environment(self, stand: Stand, **more: str) -> dict[str, str]:
        self.home.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "ANTHROPIC_BASE_URL": stand.url,
            "ANTHROPIC_AUTH_TOKEN": TOKEN,
            "ANTHROPIC_MODEL": "local-model",
            "ANTHROPIC_DEFAULT_OPUS_MODEL": "local-model",
            "ANTHROPIC_DEFAULT_SONNET_MODEL": "local-model",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "local-model",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "IS_SANDBOX": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            **more,
        }

    def run(self, stand: Stand, prompt: str, *arguments: str, timeout_s: float = 90, **environment: str) -> Done:
        done = subprocess.run(
            [str(self.program), "-p", prompt, "--dangerously-skip-permissions", *arguments],
            env=self.environment(stand, **environment),
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        return Done(done.returncode, done.stdout, done.stderr)


def is_main(asked: Asked) -> bool:
    """The main loop sends all its tools; titles and summaries send none or few."""
    return asked.path == "/v1/chat/completions" and len(asked.json.get("tools", [])) > 5


def results(asked: Asked) -> list[str]:
    """What the tools said so far, in the order in which the model sees it."""
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


__all__ = ["Claude", "call", "conversation", "is_main", "results", "say", "text", "turn"]
