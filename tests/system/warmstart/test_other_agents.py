"""Codex and OpenCode: their prompt is read once, whatever is restarted and wherever they are started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from support.programs import npm_package
from support.stack import Stack
from support.talker import events

AGENTS = {
    "codex": ("@openai/codex@0.171.0", ("exec", "--skip-git-repo-check")),
    "opencode": ("opencode-ai@1.18.33", ("run", "--title", "t")),
}


def start(name: str, home: Stack, directory: str, words: str) -> dict[str, Any]:
    """`llmstack launch NAME`; the log line of the request with the agent's whole prompt."""
    package, arguments = AGENTS[name]
    programs = npm_package(str(shutil.which("npm")), package)
    work = home.root.parent / directory
    work.mkdir(exist_ok=True)
    environment = home.environment | {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home.root.parent)}
    log = home.root / "state" / "logs" / "proxy.log"
    before = len(events(log, "request"))
    done = subprocess.run(
        [sys.executable, "-m", "llmstack", "launch", name, "--", *arguments, words],
        env=environment, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return max(
        (line for line in events(log, "request")[before:] if "prefix" in line), key=lambda line: line["tokens_in"]
    )


@pytest.mark.parametrize("name", AGENTS)
def test_a_restart_and_another_directory_read_little_more_than_the_question(name: str, stack_home: Stack) -> None:
    stack_home.up()
    assert start(name, stack_home, "one", "ping")["tokens_in"] > 5_000
    assert stack_home.run("restart").status == 0
    for directory, words in (("one", "a question after the restart"), ("two", "a question elsewhere")):
        line = start(name, stack_home, directory, words)
        assert line["prefix"]["reused"] >= 0.95 * line["tokens_in"], line
