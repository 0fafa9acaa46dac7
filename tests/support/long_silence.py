"""Claude Code asking an upstream that says nothing for six minutes, in a process beside the other tests.

    python -m support.long_silence FOLDER                                                  (with tests/ on the path)

FOLDER/result.json tells how it went. A run of the tests starts it once, and only where the test that reads the result
is selected: `start` in the process that controls the run, `result` in the one that runs the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support.claude_code import Claude, program
from support.claude_turns import conversation, is_main
from support.paths import TESTS
from support.proxy_stand import standing
from support.upstream import Asked, Upstream, Wire, say
from support.wait import eventually

SILENT_S = 360.0
TEST_FILE = "test_without_a_byte_for_six_minutes.py"


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


def result(folder: Path, within_s: float) -> dict[str, Any]:
    file = folder / "result.json"
    eventually(file.exists, "the silence ended", within_s)
    value: dict[str, Any] = json.loads(file.read_text())
    return value


def main(folder: Path) -> None:
    try:
        value = _run(folder)
    except BaseException:
        value = {"error": traceback.format_exc()}
    file = folder / "result.json.new"
    file.write_text(json.dumps(value))
    file.replace(folder / "result.json")


def _run(folder: Path) -> dict[str, Any]:
    async def silent(asked: Asked, wire: Wire) -> None:
        if is_main(asked):
            await asyncio.sleep(SILENT_S)
        await conversation(say("patience rewarded"))(asked, wire)

    client = program()
    server = Upstream(silent)
    with standing(folder / "stand", server.port) as running:
        done = Claude(client, folder / "home", folder / "work").run(running, "think long", timeout_s=SILENT_S + 120)
        lines = running.requests()
    server.close()
    return {
        "error": "",
        "status": done.status,
        "out": done.out,
        "err": done.err,
        "main_requests": sum(1 for asked in server.completions if is_main(asked)),
        "longest_ms": max(float(line["total_ms"]) for line in lines),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
