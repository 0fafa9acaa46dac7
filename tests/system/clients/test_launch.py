"""`llmstack launch` with the real agents: each answers on a fresh account, and no file of that account is touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.programs import npm_package
from support.stack import Stack

from .conftest import Hosts, chats

VERSIONS = {"codex": "@openai/codex@0.171.0", "opencode": "opencode-ai@1.18.33", "qwen": "@qwen-code/qwen-code@0.24.4"}
ARGUMENTS = {
    "codex": ("exec", "--skip-git-repo-check", "Say hello"),
    "opencode": ("run", "--title", "t", "Say hello"),
    "qwen": ("-p", "Say hello"),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_an_agent_answers_and_leaves_no_file_of_the_users_changed(
    stack: Stack, hosts: Hosts, tmp_path: Path, name: str
) -> None:
    """Their first prompts are longer than the demo's context: `demo` leads to a host here."""
    programs = npm_package(str(shutil.which("npm")), VERSIONS[name])
    overlay = stack.root / "config" / "models.toml"
    route = '\n[[routes]]\nmatch = "demo"\nupstream = "openrouter"\nmodel = "openai/gpt-4o"\n'
    overlay.write_text(overlay.read_text() + route)
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        **stack.environment, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path), "NO_COLOR": "1",
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-m", "llmstack", "launch", name, "--", *ARGUMENTS[name]],
        env=environment, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "hello from the host" in ran.stdout, ran.stdout + ran.stderr
    asked = chats(hosts.openrouter)
    assert max(len(body.get("tools", [])) for body in asked) > 3
    assert not list(work.iterdir())


def test_the_list_says_which_are_installed_and_how_to_get_the_others(stack: Stack) -> None:
    listed = json.loads(stack.run("launch", "--json").out)["agents"]
    assert {"codex", "opencode", "qwen"} <= {agent["name"] for agent in listed}
    assert all(agent["install"] and agent["tried"] for agent in listed)
    shown = stack.run("launch", "codex", "--dry-run", "--", "exec", "hi")
    assert "(the token)" in shown.out and stack.token not in shown.out and "exec hi" in shown.out
