"""The real Claude Code: its prompt is read once, whatever is restarted and wherever it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from warming.talk import events

from ..conftest import StackHome


def plainly(program: Path, home: StackHome, directory: str, words: str) -> dict[str, Any]:
    """`claude -p` that only has its base URL and its models set."""
    names = ("ANTHROPIC_MODEL", *(f"ANTHROPIC_DEFAULT_{tier}_MODEL" for tier in ("OPUS", "SONNET", "HAIKU")))
    environment = {
        "ANTHROPIC_BASE_URL": home.url,
        "ANTHROPIC_AUTH_TOKEN": home.token,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "NO_PROXY": "127.0.0.1",
        **dict.fromkeys(names, "local-model"),
    }
    return run([str(program), "-p", words], environment, home, directory)


def by_llmstack(program: Path, home: StackHome, directory: str, words: str) -> dict[str, Any]:
    """`llmstack claude -- -p`."""
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "LLMSTACK_HOME": str(home.root)}
    command = [sys.executable, "-m", "llmstack", "claude", "--", "-p", words]
    return run(command, environment, home, directory)


def run(command: list[str], environment: dict[str, str], home: StackHome, directory: str) -> dict[str, Any]:
    """The log line of the request that the client's main loop made."""
    work = home.root.parent / directory
    work.mkdir(exist_ok=True)
    always = {
        "PATH": os.environ["PATH"],
        "HOME": str(home.root.parent),
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
    }
    log = home.root / "state" / "logs" / "proxy.log"
    before = len(events(log, "request"))
    done = subprocess.run(
        command, env=always | environment, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answered = [line for line in events(log, "request")[before:] if "prefix" in line]
    return max(answered, key=lambda line: line["tokens_in"])


@pytest.mark.parametrize("start", [plainly, by_llmstack])
def test_a_restart_and_another_directory_read_little_more_than_the_question(
    start: Callable[[Path, StackHome, str, str], dict[str, Any]], stack_home: StackHome, claude_code: Path
) -> None:
    stack_home.up_demo()
    cold = start(claude_code, stack_home, "one", "ping")
    assert cold["tokens_in"] > 10_000
    assert stack_home.run("restart").status == 0
    restarted = start(claude_code, stack_home, "one", "a question after the restart")
    assert restarted["prefix"]["reused"] >= restarted["tokens_in"] - 64
    elsewhere = start(claude_code, stack_home, "two", "a question elsewhere")
    assert elsewhere["prefix"]["reused"] >= 0.95 * elsewhere["tokens_in"]
