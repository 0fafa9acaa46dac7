"""The real Gemini CLI on /v1beta: a loop of three tool calls, and each prompt goes on from the last one."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from support.programs import npm_package
from support.proxy_stand import TOKEN, ProxyStand, standing
from support.streams import DONE, finish, text, tool, usage
from support.upstream import Asked, Upstream, Wire, aside

from .test_other_clients import snippet

GEMINI = "0.61.0"


@pytest.fixture(scope="module")
def gemini() -> Path:
    """Its program, from npm."""
    npm = shutil.which("npm")
    assert npm, "npm is missing: install Node.js 20 or newer"
    return npm_package(npm, f"@google/gemini-cli@{GEMINI}") / "gemini"


async def agent(asked: Asked, wire: Wire) -> None:
    """Writes a file, counts it, reads it, and says so; a request without tools is a side call."""
    if asked.path != "/v1/chat/completions":
        await aside(asked, wire)
        return
    results = [turn for turn in asked.json["messages"] if turn["role"] == "tool"]
    calls = [
        tool(0, "call_first00001", "write_file", json.dumps({"file_path": "made.txt", "content": "one two\n"})),
        tool(0, "call_second0001", "run_shell_command", json.dumps({"command": "wc -w made.txt"})),
        tool(0, "call_third00001", "read_file", json.dumps({"file_path": "made.txt"})),
    ]
    if asked.json.get("tools") and len(results) < len(calls):
        await wire.stream(calls[len(results)] + finish("tool_calls") + usage(100, 9, 50) + DONE)
    else:
        await wire.stream(text("All three ", "are done.") + finish() + usage(200, 5, 150) + DONE)


def run(gemini: Path, stand: ProxyStand, home: Path, command: str) -> str:
    """A command of the shell, in a home of its own."""
    node = Path(shutil.which("node") or "node").parent
    environment = {"PATH": f"{gemini.parent}:{node}:/usr/bin:/bin", "HOME": str(home), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        ["sh", "-ec", command], env=environment | {"STACK_URL": stand.url, "STACK_TOKEN": TOKEN}, cwd=home / "work",
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_gemini_cli_works_through_a_loop_of_tool_calls(gemini: Path, tmp_path: Path) -> None:
    """Pointed here as the page says."""
    home = tmp_path / "home"
    work = home / "work"
    work.mkdir(parents=True)
    upstream = Upstream(agent)
    try:
        with standing(tmp_path / "h", upstream.port) as stand:
            out = run(gemini, stand, home, snippet("gemini").replace('"Say hello"', '"Make a file" --yolo'))
            lines = [line for line in stand.requests() if "GenerateContent" in line["path"]]
    finally:
        upstream.close()
    assert "All three are done." in out
    assert (work / "made.txt").read_text() == "one two\n"
    assert {line["status"] for line in lines} == {200}
    bodies = [asked.json for asked in upstream.completions if asked.json.get("tools")]
    assert len(bodies) == 4
    for before, after in pairwise(bodies):
        assert after["tools"] == before["tools"]
        assert after["messages"][: len(before["messages"])] == before["messages"]
    assert bodies[-1]["messages"][-1]["tool_call_id"] == "call_third00001"
