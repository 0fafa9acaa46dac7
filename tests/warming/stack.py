"""A stack in a home of its own, for the time of a measurement."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxying.stand import free_port


@dataclass(frozen=True)
class Stack:
    home: Path
    port: int
    server_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def server_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def token(self) -> str:
        return (self.home / "state" / "token").read_text().strip()

    @property
    def server_key(self) -> str:
        return (self.home / "state" / "server.key").read_text().strip()

    def run(self, *arguments: str) -> None:
        environment = os.environ | {"LLMSTACK_HOME": str(self.home)}
        command = [sys.executable, "-m", "llmstack", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)


@contextmanager
def running(*arguments: str) -> Iterator[Stack]:
    """arguments: of `up`, besides the ports."""
    with tempfile.TemporaryDirectory(prefix="llmstack-bench-") as folder:
        stack = Stack(Path(folder) / "stack", free_port(), free_port())
        try:
            stack.run("up", *arguments, "--port", str(stack.port), "--server-port", str(stack.server_port))
            yield stack
        finally:
            stack.run("down")
