"""Real parts: a stack in a home of its own, run through the command line, and the real Claude Code client."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from installed import npm_package

CLAUDE_CODE = "2.1.329"


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
class StackHome:
    """An LLMSTACK_HOME with ports of its own."""

    root: Path
    proxy_port: int
    server_port: int

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("LLMSTACK_", "ANTHROPIC"))
        }
        return inherited | {"LLMSTACK_HOME": str(self.root), "NO_COLOR": "1"}

    @property
    def ports(self) -> tuple[str, ...]:
        return ("--port", str(self.proxy_port), "--server-port", str(self.server_port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy_port}"

    @property
    def token(self) -> str:
        return (self.root / "state" / "token").read_text().strip()

    def run(self, *arguments: str, timeout_s: float = 180) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "llmstack", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def up_demo(self, *more: str) -> Ran:
        ran = self.run("up", "--demo", *self.ports, *more)
        assert ran.status == 0, ran.err
        return ran

    def processes(self) -> list[psutil.Process]:
        """Every living process that was started for this home."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("LLMSTACK_HOME") == str(self.root) and process.pid != os.getpid():
                    found.append(process)
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ended(home: StackHome) -> None:
    home.run("down")
    for process in home.processes():
        with contextlib.suppress(psutil.Error):
            process.kill()


@pytest.fixture
def stack_home(tmp_path: Path) -> Iterator[StackHome]:
    """A home for one test; what it started is ended."""
    home = StackHome(tmp_path / "home", free_port(), free_port())
    yield home
    _ended(home)


@pytest.fixture(scope="session")
def demo_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackHome]:
    """One running demo stack, shared by tests that only talk to it."""
    home = StackHome(tmp_path_factory.mktemp("demo") / "home", free_port(), free_port())
    home.up_demo()
    yield home
    _ended(home)


@pytest.fixture(scope="session")
def claude_code() -> Path:
    """The real client, installed from npm into the user's cache once. LLMSTACK_TEST_CLAUDE names one to use instead."""
    given = os.environ.get("LLMSTACK_TEST_CLAUDE")
    if given:
        return Path(given)
    npm = shutil.which("npm") or _install_node()
    return npm_package(npm, f"@anthropic-ai/claude-code@{CLAUDE_CODE}") / "claude"


def _install_node() -> str:
    """Debian's nodejs and npm, when this is root on a machine without them; fails with the command otherwise."""
    assert os.geteuid() == 0 and shutil.which("apt-get"), "npm is missing: install Node.js 18 or newer"
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "nodejs", "npm"]):
        subprocess.run(command, check=True, capture_output=True, timeout=900)
    npm = shutil.which("npm")
    assert npm, "npm is still missing after its installation"
    return npm
