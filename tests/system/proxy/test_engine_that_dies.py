"""A real engine that dies on one word, a whole stack around it, and the real Claude Code in front (fault 52)."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.poisoned_engine import LAST_WORDS, install
from support.stack import Stack
from support.wait import eventually


@pytest.fixture
def stack(tmp_path: Path, built_engine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A demo model on the engine that dies, kept running by llmstack's own supervisor."""
    monkeypatch.setenv("LLMSTACK_SUPERVISOR", "process")
    made = ProcessStack.in_folder(tmp_path / "home")
    folder = install(tmp_path / "engine", built_engine / "llama-server")
    made.do("engine", "use", str(folder))
    yield made
    made.end()


class ProcessStack(Stack):
    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "LLMSTACK_SUPERVISOR": "process"}


def post(stack: Stack, text: str) -> httpx.Response:
    body = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": text}]}
    return httpx.post(
        f"{stack.url}/v1/messages", json=body, headers={"x-api-key": stack.token}, timeout=120, trust_env=False
    )


def server(stack: Stack) -> dict[str, Any]:
    status: dict[str, Any] = stack.run("status", "--json").json
    return status


def test_a_word_the_engine_dies_on_is_refused_by_name_and_the_stack_lives_on(stack: Stack, claude_code: Path) -> None:
    stack.up()
    environment = json.loads(stack.run("env", "--json").out) if False else stack.environment
    work = stack.root.parent / "work"
    work.mkdir()
    began = time.monotonic()
    command = ["claude", "--", "-p", "POISON please", "--dangerously-skip-permissions"]
    done = subprocess.run(
        [*_llmstack(), *command],
        env={**environment, "HOME": str(work), "PATH": f"{claude_code.parent}:{environment['PATH']}", "IS_SANDBOX": "1"},
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    said = done.stdout + done.stderr
    assert "the engine died twice on this request" in said and LAST_WORDS in said, said
    assert time.monotonic() - began < 120
    eventually(lambda: server(stack)["state"] == "ready", "the stack lives on", 60)
    status = server(stack)
    assert status["services"]["server"]["restarts"] == 2 and status["refused"] == {"requests": 1}
    assert post(stack, "hello there").status_code == 200
    screen = stack.run("status").out
    assert "died on 1 request" in screen and "GGML_ASSERT" in screen
    findings = stack.run("doctor", "--json").json["checks"]
    assert any("died on 1 request" in finding["detail"] for finding in findings), findings


def _llmstack() -> list[str]:
    import sys

    return [sys.executable, "-m", "llmstack"]
