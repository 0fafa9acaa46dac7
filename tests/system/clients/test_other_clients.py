"""The snippets of docs/other-clients.md, run as they stand there, and tool use over OpenAI's API."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from support.hosts.chat import Cerebras
from support.paths import DOCS
from support.programs import npm_package
from support.stack import Stack

from .conftest import Hosts, chats

DOCUMENT = DOCS / "other-clients.md"
QWEN_CODE = "0.15.10"
SAID = "The demo model answers"


def snippet(name: str) -> str:
    found: list[str] = re.findall(rf"```\w+ {name}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(found) == 1
    return found[0]


def run(command: list[str], stack: Stack, home: Path, **more: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "STACK_URL": stack.url, "STACK_TOKEN": stack.token}
    done = subprocess.run(
        command, env=environment | {"NO_PROXY": "127.0.0.1", **more}, cwd=home,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("sdk", ["anthropic", "openai"])
def test_an_sdk(stack: Stack, tmp_path: Path, sdk: str) -> None:
    out = run([sys.executable, "-c", snippet(sdk)], stack, tmp_path)
    assert SAID in out
    assert ("input_tokens=" in out) if sdk == "anthropic" else ("demo" in out.splitlines()[-1])


def test_curl(stack: Stack, tmp_path: Path) -> None:
    assert shutil.which("curl")
    out = run(["sh", "-c", snippet("curl")], stack, tmp_path)
    assert '"type":"message"' in out and "The demo model" in out


@pytest.fixture(scope="session")
def qwen_code() -> Path:
    """The folder of its program, from npm."""
    npm = shutil.which("npm")
    assert npm, "npm is missing: install Node.js 20 or newer"
    return npm_package(npm, f"@qwen-code/qwen-code@{QWEN_CODE}")


def test_qwen_code(stack: Stack, hosts: Hosts, qwen_code: Path, tmp_path: Path) -> None:
    """Its first prompt has 20,000 tokens: `local` leads to a host here, so that the test takes seconds."""
    overlay = stack.root / "config" / "models.toml"
    route = '\n[[routes]]\nmatch = "local"\nupstream = "openrouter"\nmodel = "openai/gpt-4o"\n'
    overlay.write_text(overlay.read_text() + route)
    out = run(["sh", "-c", snippet("qwen")], stack, tmp_path, PATH=f"{qwen_code}:{os.environ['PATH']}")
    assert "hello from the host" in out
    assert len(max(chats(hosts.openrouter), key=lambda body: len(body.get("tools", [])))["tools"]) > 3


def test_tools_over_openai_s_api_reach_the_upstream(stack: Stack, hosts: Hosts) -> None:
    client = openai.OpenAI(base_url=stack.url + "/v1", api_key=stack.token)
    function = {"name": "read_file", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}
    answer = client.chat.completions.create(
        model=f"cerebras/{Cerebras.MODEL}",
        messages=[{"role": "user", "content": "read it"}],
        tools=[{"type": "function", "function": function}],  # type: ignore[list-item]
    )
    calls = answer.choices[0].message.tool_calls
    assert calls and calls[0].type == "function" and json.loads(calls[0].function.arguments) == {"path": "notes.txt"}
