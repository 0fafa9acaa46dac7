"""The real clients asking an upstream that says nothing for 700 s, in a process beside the other tests.

    python -m support.long_silence FOLDER                                                  (with tests/ on the path)

FOLDER/NAME.json tells how it went for each. A run of the tests starts it once, and only where the test that reads the
results is selected: `start` in the process that controls the run, `result` in the one that runs the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmstack.launch.agents import AGENTS, PointFacts
from llmstack.launch.start import environment_for
from support.agents import TRIED, node
from support.claude_code import Claude, program
from support.paths import TESTS
from support.proxy_stand import TOKEN, ProxyStand, standing
from support.upstream import Asked, Upstream, Wire, aside, say
from support.wait import eventually

SILENT_S = 700.0
MORE_S = 200.0  # what a client may take besides, on a busy machine
TEST_FILE = "test_silence.py"
CLAUDE = "claude"
# Aider's own limit is 600 s and has no setting; Hermes and Vibe have none (docs/other-clients.md).
PATIENT = (CLAUDE, "codex", "opencode", "qwen", "pi", "copilot", "cline", "continue", "gemini")


class LongSilence:
    """Started at most once per run; ended with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, selected: Iterable[str]) -> None:
        """selected: ids of the tests of this run."""
        if self._process is not None or not any(TEST_FILE in name for name in selected):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.long_silence", str(self.folder)],
                cwd=TESTS, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def result(folder: Path, name: str, within_s: float) -> dict[str, Any]:
    file = folder / f"{name}.json"
    eventually(file.exists, "the silence ended", within_s)
    value: dict[str, Any] = json.loads(file.read_text())
    return value


def main(folder: Path) -> None:
    """All at once: they wait, and cost nothing meanwhile."""
    threads = [threading.Thread(target=_written, args=(folder, name)) for name in PATIENT]
    for thread in threads:
        thread.start()
        time.sleep(2)  # each takes a second of both cores to begin
    for thread in threads:
        thread.join()


def _written(folder: Path, name: str) -> None:
    try:
        value = _run(folder / name, _claude if name == CLAUDE else _agent, name)
    except BaseException:
        value = {"error": traceback.format_exc()}
    file = folder / f"{name}.json.new"
    file.write_text(json.dumps(value))
    file.replace(folder / f"{name}.json")


def _run(folder: Path, ask: Callable[[ProxyStand, Path, str], Any], name: str) -> dict[str, Any]:
    waited: list[Asked] = []

    async def silent(asked: Asked, wire: Wire) -> None:
        if asked.path != "/v1/chat/completions":
            await aside(asked, wire)
            return
        if asked.json.get("tools") and not waited:  # some ask once more when they have their answer
            waited.append(asked)
            await asyncio.sleep(SILENT_S)
        await wire.stream(say("patience rewarded"))

    folder.mkdir()
    server = Upstream(silent)
    with standing(folder / "stand", server.port) as running:
        done = ask(running, folder, name)
        lines = running.requests()
    server.close()
    return {
        "error": "",
        "status": done[0],
        "out": done[1],
        "given_up": [line for line in lines if line.get("disconnected") or line["status"] != 200],
        "longest_ms": max(float(line["total_ms"]) for line in lines),
    }


def _claude(stand: ProxyStand, folder: Path, name: str) -> tuple[int, str]:
    """Without a setting of its own."""
    done = Claude(program(), folder / "home", folder / "work").run(stand, "think long", timeout_s=SILENT_S + MORE_S)
    return done.status, done.out + done.err


def _agent(stand: ProxyStand, folder: Path, name: str) -> tuple[int, str]:
    """As `launch` starts it."""
    agent, tried, home = AGENTS[name], TRIED[name], folder / "home"
    ours, work = folder / "launch", folder / "work"
    for made in (home, ours, work):
        made.mkdir()
    pointed = agent.point(PointFacts(stand.url, TOKEN, "local-model", 65536, 8192, ours))
    for file, text in pointed.files.items():
        (ours / file).parent.mkdir(parents=True, exist_ok=True)
        (ours / file).write_text(text)
    path = f"{tried.folder(agent.version)}:{node()}:/usr/bin:/bin"
    own = {"PATH": path, "HOME": str(home), "NO_COLOR": "1", "LANG": "C.UTF-8", "TERM": "dumb"}
    return _ran([agent.program, *pointed.arguments, *tried.arguments], environment_for(pointed, own), work)


def _ran(command: Sequence[str], environment: Mapping[str, str], work: Path) -> tuple[int, str]:
    found = next(path for folder in environment["PATH"].split(":") if (path := Path(folder) / command[0]).exists())
    done = subprocess.run(
        [str(found), *command[1:]], env=environment, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=SILENT_S + MORE_S,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    main(Path(sys.argv[1]))
