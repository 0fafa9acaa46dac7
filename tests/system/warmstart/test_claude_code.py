"""The real Claude Code: its prompt is read once, whatever is restarted and wherever it is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.claude_code import plain, run
from support.stack import Stack


def plainly(program: Path, home: Stack, directory: str, words: str) -> dict[str, Any]:
    """`claude -p` that only has its base URL and its models set."""
    return run([str(program), "-p", words], plain(home.url, home.token), home.root, directory)


def by_llmstack(program: Path, home: Stack, directory: str, words: str) -> dict[str, Any]:
    """`llmstack claude -- -p`."""
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "LLMSTACK_HOME": str(home.root)}
    command = [sys.executable, "-m", "llmstack", "claude", "--", "-p", words]
    return run(command, environment, home.root, directory)


@pytest.mark.parametrize("start", [plainly, by_llmstack])
def test_a_restart_and_another_directory_read_little_more_than_the_question(
    start: Callable[[Path, Stack, str, str], dict[str, Any]], stack_home: Stack, claude_code: Path
) -> None:
    stack_home.up()
    cold = start(claude_code, stack_home, "one", "ping")
    assert cold["tokens_in"] > 10_000
    assert stack_home.run("restart").status == 0
    restarted = start(claude_code, stack_home, "one", "a question after the restart")
    assert restarted["prefix"]["reused"] >= restarted["tokens_in"] - 64
    elsewhere = start(claude_code, stack_home, "two", "a question elsewhere")
    assert elsewhere["prefix"]["reused"] >= 0.95 * elsewhere["tokens_in"]
