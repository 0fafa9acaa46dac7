"""Runs one llmstack command and kills it (SIGKILL) right before its N-th effect on the world.

    python crash.py N RECORD COMMAND...

An effect is a file put in place or removed, a change asked of systemd, a process started or signalled. Their names
go to RECORD, one a line, so that a first run with a large N enumerates the boundaries.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ASKING = ("show", "is-system-running", "--version")
count = 0


def guarded(name: Callable[..., str], effect: Callable[..., Any], limit: int, record: Path) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        global count
        label = name(*arguments)
        if label:
            count += 1
            with record.open("a") as stream:
                stream.write(label + "\n")
            if count == limit:
                os.kill(os.getpid(), signal.SIGKILL)
        return effect(*arguments, **named)

    return run


def of_command(command: list[str], *_: Any) -> str:
    words = [word for word in command if word != "--user"]
    if command[0] == "systemctl" and words[1] not in _ASKING:
        return " ".join(words[:2])
    return "spawn" if "llmstack.process.daemon" in command else ""


def of_path(verb: str) -> Callable[..., str]:
    """Only what belongs to the deployment counts; the caches of engine probes and models do not."""

    def name(path: Path, *_: Any) -> str:
        target = Path(_[0]) if _ else path
        deployed = target.suffix == ".service" or target.parent.name in ("state", "process")
        return f"{verb} {target.name}" if deployed else ""

    return name


def main() -> int:
    limit, record = int(sys.argv[1]), Path(sys.argv[2])
    from llmstack.cli.main import run

    subprocess.run = guarded(of_command, subprocess.run, limit, record)  # type: ignore[assignment]
    popen = subprocess.Popen.__init__

    def started(self: Any, command: list[str], *more: Any, **named: Any) -> None:
        guarded(lambda: "spawn" if "llmstack.process.daemon" in command else "", lambda: None, limit, record)()
        popen(self, command, *more, **named)

    subprocess.Popen.__init__ = started  # type: ignore[method-assign]
    Path.replace = guarded(of_path("replace"), Path.replace, limit, record)  # type: ignore[method-assign]
    Path.unlink = guarded(of_path("unlink"), Path.unlink, limit, record)  # type: ignore[method-assign]
    kill = os.kill

    def signalled(pid: int, number: int) -> None:
        if pid != os.getpid():
            guarded(lambda: "signal", lambda: None, limit, record)()
        kill(pid, number)

    os.kill = signalled
    return run(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
