"""A whole stack in a home of its own, run through the command line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from support.wait import free_port


@dataclass(frozen=True)
class Ran:
    """One finished command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Stack:
    """An LLMSTACK_HOME with ports of its own. model: what `up` is given; None for the demo model. variables: of the
    environment, besides."""

    root: Path
    proxy_port: int
    server_port: int
    model: Path | None = None
    variables: tuple[tuple[str, str], ...] = ()

    @classmethod
    def in_folder(cls, root: Path) -> Stack:
        return cls(root, free_port(), free_port())

    def with_model(self, model: Path) -> Stack:
        return replace(self, model=model)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("LLMSTACK_", "ANTHROPIC"))
        }
        return inherited | {"LLMSTACK_HOME": str(self.root), "NO_COLOR": "1"} | dict(self.variables)

    @property
    def ports(self) -> tuple[str, ...]:
        return ("--port", str(self.proxy_port), "--server-port", str(self.server_port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy_port}"

    @property
    def server_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def token(self) -> str:
        return (self.root / "state" / "token").read_text().strip()

    @property
    def server_key(self) -> str:
        return (self.root / "state" / "server.key").read_text().strip()

    def run(self, *arguments: str, timeout_s: float | None = 180) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "llmstack", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def do(self, *arguments: str) -> None:
        """A command that must succeed, however long it takes."""
        ran = self.run(*arguments, timeout_s=None)
        assert ran.status == 0, ran.err

    def record(self) -> Any:
        """What is deployed: stack.json."""
        return json.loads((self.root / "state" / "stack.json").read_text())

    def up_command(self, *more: str) -> tuple[str, ...]:
        return ("up", str(self.model) if self.model else "--demo", *self.ports, *more)

    def up(self, *more: str, timeout_s: float | None = 180) -> Ran:
        ran = self.run(*self.up_command(*more), timeout_s=timeout_s)
        assert ran.status == 0, ran.err
        return ran

    def processes(self) -> list[psutil.Process]:
        """Every living process that was started for this home."""
        ours = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("LLMSTACK_HOME") == str(self.root) and process.pid != os.getpid():
                    ours.append(process)
        return ours

    def end(self) -> None:
        """Stops it, and kills what does not stop."""
        self.run("down")
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


@contextlib.contextmanager
def running(model: Path | None = None, *arguments: str) -> Iterator[Stack]:
    """A stack for the time of a measurement; arguments: of `up`, besides the model and the ports."""
    with tempfile.TemporaryDirectory(prefix="llmstack-bench-") as folder:
        stack = replace(Stack.in_folder(Path(folder) / "stack"), model=model)
        try:
            stack.up(*arguments, timeout_s=None)
            yield stack
        finally:
            stack.end()
