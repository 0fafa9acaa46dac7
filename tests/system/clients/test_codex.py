"""The real Codex over /v1/responses: a loop of tool calls, its catalogue from this proxy, and its own patch tool."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.programs import npm_package
from support.proxy_stand import TOKEN, standing
from support.streams import DONE, finish, text, tool, usage
from support.upstream import Asked, Upstream, Wire

CODEX = "0.171.0"
MODELS = """
[upstreams.host]
kind = "openai"
base_url = "{url}/v1"
context = 65536
[[routes]]
match = "local"
upstream = "host"
"""
PATCH = "*** Begin Patch\n*** Add File: made.txt\n+made by a patch\n*** End Patch\n"


@pytest.fixture(scope="module")
def codex() -> Path:
    """Its program, from npm."""
    npm = shutil.which("npm")
    assert npm, "npm is missing: install Node.js 20 or newer"
    return npm_package(npm, f"@openai/codex@{CODEX}") / "codex"


async def agent(asked: Asked, wire: Wire) -> None:
    """Lists, patches, lists again, and says so: what it does next follows from what it was sent."""
    results = [turn for turn in asked.json["messages"] if turn["role"] == "tool"]
    calls = [
        tool(0, "call_first00001", "exec_command", json.dumps({"cmd": "echo one > first.txt; ls"})),
        tool(0, "call_second0001", "apply_patch", json.dumps({"input": PATCH})),
        tool(0, "call_third00001", "exec_command", json.dumps({"cmd": "cat made.txt first.txt"})),
    ]
    if len(results) < len(calls):
        await wire.stream(calls[len(results)] + finish("tool_calls") + usage(100, 9, 50) + DONE)
    else:
        await wire.stream(text("All three ", "are done.") + finish() + usage(200, 5, 150) + DONE)


def run(codex: Path, url: str, home: Path, *prompt: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "model": "local",
        "model_provider": "llmstack",
        "web_search": "disabled",
        "check_for_update_on_startup": False,
        "analytics.enabled": False,
        "model_providers.llmstack.name": "llmstack",
        "model_providers.llmstack.base_url": f"{url}/v1",
        "model_providers.llmstack.wire_api": "responses",
        "model_providers.llmstack.env_key": "LLMSTACK_TOKEN",
        "model_providers.llmstack.model_catalog_url": f"{url}/v1/models",
    }
    given = [part for name, value in settings.items() for part in ("-c", f"{name}={json.dumps(value)}")]
    node = Path(shutil.which("node") or "node").parent
    environment = {"PATH": f"{node}:/usr/bin:/bin", "HOME": str(home), "LLMSTACK_TOKEN": TOKEN, "NO_PROXY": "127.0.0.1"}
    command = [str(codex), *given, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    return subprocess.run(
        [*command, *prompt], env=environment, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip


def test_codex_works_through_a_loop_of_tool_calls(codex: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    upstream = Upstream(agent)
    try:
        with standing(tmp_path / "h", models=MODELS.format(url=upstream.url)) as stand:
            done = run(codex, stand.url, home, "Make two files")
            lines: list[Any] = [line for line in stand.log if line.get("path") == "/v1/responses"]
    finally:
        upstream.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All three are done." in done.stdout
    assert "metadata" not in done.stderr.lower(), done.stderr  # it has read its catalogue
    assert (home / "first.txt").read_text() == "one\n" and (home / "made.txt").read_text() == "made by a patch\n"
    assert len(lines) == 4 and {line["status"] for line in lines} == {200}
    assert all(line["tokens_cached"] for line in lines)
    first, *_, last = (asked.json for asked in upstream.completions)
    assert [turn["content"] for turn in last["messages"]][: len(first["messages"])] == [
        turn["content"] for turn in first["messages"]
    ]
    assert "made by a patch" in last["messages"][-1]["content"]
