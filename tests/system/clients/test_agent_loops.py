"""Every agent that `llmstack launch` starts, the real one: three calls one after another, through the real proxy.

Each has a home and a folder of its own, and no way out of this machine. The table of docs/other-clients.md is theirs:
LLMSTACK_RENEW_TABLE=1 writes each line anew instead of comparing it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmstack.launch.agents import AGENTS
from llmstack.launch.lasting import LASTING
from support.agents import FILES, LAST, OWN_SETTINGS, TRIED, kept_share, node, row, script
from support.paths import DOCS
from support.stack import Stack
from support.upstream import Upstream

DOCUMENT = DOCS / "other-clients.md"
NOWHERE = "http://127.0.0.1:9"  # the port where nothing listens: what wants to leave the machine fails at once
LED = """
[upstreams.scripted]
kind = "openai"
base_url = "{url}/v1"
context = 65536
max_output = 8192
[[routes]]
match = "demo"
upstream = "scripted"
"""
# Its chat names the files it has and their text before what was said: made anew with each of them.
KEEPS_LESS = {"aider"}


@pytest.mark.parametrize("name", TRIED)
def test_it_makes_three_calls_and_each_prompt_begins_with_the_one_before(
    stack: Stack, tmp_path: Path, name: str
) -> None:
    tried, work = TRIED[name], tmp_path / "work"
    work.mkdir()
    upstream = Upstream(script(tried, work))
    try:
        overlay = stack.root / "config" / "models.toml"
        overlay.write_text(overlay.read_text() + LED.format(url=upstream.url))
        log = stack.root / "state" / "logs" / "proxy.log"
        before = log.stat().st_size
        ran = launch(stack, name, tmp_path, work)
        lines = requests(log, before)
        bodies = [asked.json for asked in upstream.completions]
    finally:
        upstream.close()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    if tried.calls is None:
        assert len(bodies) == len(FILES)
        assert [(work / file).read_text() for file in FILES] == ["made\n"] * len(FILES)
    else:
        assert LAST in ran.stdout, ran.stdout + ran.stderr
        assert len(bodies) == 4
        assert [(work / file).read_text() for file in FILES] == ["one\n", "two\n", "one\ntwo\n"]
        assert all(len(body["tools"]) > 3 for body in bodies)
    assert {line["status"] for line in lines} == {200}
    assert [line["tokens_cached"] for line in lines if line["tokens_cached"]]
    share = kept_share(bodies)
    assert share >= 0.95 or name in KEEPS_LESS, f"{share:.1%} of a prompt was kept"
    (path,) = {line["path"] for line in lines}
    agrees_with_the_table(AGENTS[name].title, row(name, path, share))


@pytest.mark.parametrize("name", LASTING)
def test_written_into_its_own_settings_it_comes_here_by_itself_until_that_is_undone(
    stack: Stack, tmp_path: Path, name: str
) -> None:
    tried, work = TRIED[name], tmp_path / "work"
    own, text = OWN_SETTINGS[name]
    file = tmp_path / "home" / own
    file.parent.mkdir(parents=True)
    file.write_text(text)
    work.mkdir()
    upstream = Upstream(script(tried, work))
    try:
        overlay = stack.root / "config" / "models.toml"
        overlay.write_text(overlay.read_text() + LED.format(url=upstream.url))
        written = llmstack(stack, tmp_path, "launch", name, "--write")
        assert written.returncode == 0 and str(file) in written.stdout, written.stdout + written.stderr
        ran = run(stack, name, tmp_path, work, [AGENTS[name].program, *tried.arguments])
        undone = llmstack(stack, tmp_path, "launch", name, "--undo")
    finally:
        upstream.close()
    assert ran.returncode == 0 and LAST in ran.stdout, ran.stdout + ran.stderr
    assert len(upstream.completions) == 4
    assert undone.returncode == 0, undone.stderr
    if name == "qwen":  # it writes its settings anew at each start, with a version in them
        assert json.loads(file.read_text()).items() >= json.loads(text).items()
        assert stack.token not in file.read_text() and "ANTHROPIC" not in file.read_text()
    else:
        assert file.read_text() == text


def launch(stack: Stack, name: str, folder: Path, work: Path) -> subprocess.CompletedProcess[str]:
    (folder / "home").mkdir()
    command = [sys.executable, "-m", "llmstack", "launch", name, "--", *TRIED[name].arguments]
    return run(stack, name, folder, work, command)


def llmstack(stack: Stack, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**stack.environment, "HOME": str(folder / "home")}
    return subprocess.run(
        [sys.executable, "-m", "llmstack", *words], env=environment, cwd=folder, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def run(stack: Stack, name: str, folder: Path, work: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    tried = TRIED[name]
    programs = tried.folder(AGENTS[name].version)
    environment = {
        "PATH": f"{programs}:{node()}:/usr/bin:/bin", "HOME": str(folder / "home"), "LLMSTACK_HOME": str(stack.root),
        "NO_COLOR": "1", "LANG": "C.UTF-8", "TERM": "dumb", "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "npm_config_registry": NOWHERE, "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    with_path = [str(shutil.which(command[0], path=environment["PATH"]) or command[0]), *command[1:]]
    return subprocess.run(
        with_path, env=environment, cwd=work, input=tried.input() or "", capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def requests(log: Path, start: int) -> list[dict[str, Any]]:
    """What the proxy has answered since then, but for lists of models and the like."""
    lines = log.read_bytes()[start:].decode().splitlines()
    every = [json.loads(line[line.index("{") :]) for line in lines if '"event":"request"' in line]
    return [line for line in every if line["method"] == "POST" and "tokens_in" in line]


def agrees_with_the_table(title: str, line: str) -> None:
    lines = DOCUMENT.read_text().splitlines()
    (number,) = (i for i, text in enumerate(lines) if text.startswith(f"| {title} | ") and text.endswith("% |"))
    if os.environ.get("LLMSTACK_RENEW_TABLE"):
        lines[number] = line
        DOCUMENT.write_text("\n".join(lines) + "\n")
    assert lines[number] == line, "LLMSTACK_RENEW_TABLE=1 writes it anew"
