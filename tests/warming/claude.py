"""One run of the real Claude Code on a stack, and what the proxy logged of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from warming.talk import events

_MODELS = ("ANTHROPIC_MODEL", *(f"ANTHROPIC_DEFAULT_{tier}_MODEL" for tier in ("OPUS", "SONNET", "HAIKU")))


def plain(url: str, token: str) -> dict[str, str]:
    """The environment of a client that only has its base URL, its token and its models set."""
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": token,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "NO_PROXY": "127.0.0.1",
        **dict.fromkeys(_MODELS, "local-model"),
    }


def run(
    command: list[str], environment: dict[str, str], root: Path, directory: str, *, timeout_s: float = 150
) -> dict[str, Any]:
    """The log line of the request that the client's main loop made.

    root: the stack's LLMSTACK_HOME; beside it lie the client's own home and the directory that it works in.
    """
    work = root.parent / directory
    work.mkdir(exist_ok=True)
    always = {
        "PATH": os.environ["PATH"],
        "HOME": str(root.parent),
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
    }
    log = root / "state" / "logs" / "proxy.log"
    before = len(events(log, "request"))
    done = subprocess.run(
        command, env=always | environment, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout_s,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answered = [line for line in events(log, "request")[before:] if "prefix" in line]
    return max(answered, key=lambda line: line["tokens_in"])
