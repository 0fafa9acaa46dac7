"""The real Claude Code: its prompt is read once, whatever is restarted and wherever it is started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from warming.talk import events

from ..conftest import StackHome


def run(program: Path, home: StackHome, directory: str, words: str) -> dict[str, Any]:
    """The log line of the request that the client's main loop made."""
    work = home.root.parent / directory
    work.mkdir(exist_ok=True)
    names = ("ANTHROPIC_MODEL", *(f"ANTHROPIC_DEFAULT_{tier}_MODEL" for tier in ("OPUS", "SONNET", "HAIKU")))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home.root.parent),
        "ANTHROPIC_BASE_URL": home.url,
        "ANTHROPIC_AUTH_TOKEN": home.token,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
        "NO_PROXY": "127.0.0.1",
        **dict.fromkeys(names, "local-model"),
    }
    done = subprocess.run(
        [str(program), "-p", words], env=environment, cwd=work, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    answered = [line for line in events(home.root / "state" / "logs" / "proxy.log", "request") if "prefix" in line]
    return max(answered[-2:], key=lambda line: line["tokens_in"])


def test_a_restart_and_another_directory_read_little_more_than_the_question(
    stack_home: StackHome, claude_code: Path
) -> None:
    stack_home.up_demo()
    cold = run(claude_code, stack_home, "one", "ping")
    assert cold["tokens_in"] > 10_000
    assert stack_home.run("restart").status == 0
    restarted = run(claude_code, stack_home, "one", "a question after the restart")
    assert restarted["prefix"]["reused"] >= restarted["tokens_in"] - 64
    elsewhere = run(claude_code, stack_home, "two", "a question elsewhere")
    assert elsewhere["prefix"]["reused"] >= 0.95 * elsewhere["tokens_in"]
