"""A real engine that dies on one word, a whole stack around it, and the real Claude Code in front."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.claude_code import QUIET
from support.poisoned_engine import LAST_WORDS, install
from support.stack import Stack
from support.wait import eventually


@pytest.fixture
def stack(tmp_path: Path, built_engine: Path) -> Iterator[Stack]:
    """A demo model on the engine that dies, kept running by llmstack's own supervisor."""
    made = ProcessStack.in_folder(tmp_path / "home")
    folder = install(tmp_path / "engine", built_engine / "llama-server")
    made.do("engine", "use", str(folder / "llama-server"))
    yield made
    made.end()


class ProcessStack(Stack):
    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "LLMSTACK_SUPERVISOR": "process"}


def post(stack: Stack, text: str) -> httpx.Response:
    body = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": text}]}
    headers = {"x-api-key": stack.token}
    return httpx.post(f"{stack.url}/v1/messages", json=body, headers=headers, timeout=120, trust_env=False)


def claude(stack: Stack, program: Path, prompt: str) -> str:
    """`llmstack claude`, as a user calls it; all it says."""
    home = stack.root.parent / "work"
    home.mkdir()
    more = {"HOME": str(home), "PATH": f"{program.parent}:{stack.environment['PATH']}", **QUIET}
    done = subprocess.run(
        [sys.executable, "-m", "llmstack", "claude", "--", "-p", prompt, "--dangerously-skip-permissions"],
        env=stack.environment | more,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    return done.stdout + done.stderr


def ready(stack: Stack) -> bool:
    return bool(stack.run("status", "--json").json["state"] == "ready")


def test_a_word_the_engine_dies_on_is_refused_by_name_and_the_stack_lives_on(stack: Stack, claude_code: Path) -> None:
    stack.up()
    words = claude(stack, claude_code, "POISON please")
    assert "the engine died twice on this request (killed by SIGABRT; " in words and LAST_WORDS in words, words
    eventually(lambda: ready(stack), "the stack lives on", 60)
    status = stack.run("status", "--json").json
    assert status["services"]["server"]["restarts"] == 2 and status["refused"]["requests"] == 1
    assert post(stack, "hello there").status_code == 200
    screen = stack.run("status").out
    assert "the engine died on 1 request" in screen and "GGML_ASSERT" in screen
    findings = stack.run("doctor", "--json").json["checks"]
    assert any("the engine died on 1 request" in finding["finding"] for finding in findings)
    stack.do("restart", "server")
    assert post(stack, "POISON again").status_code == 529  # it is tried again
