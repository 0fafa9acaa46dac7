"""The real Claude Code: installed once per machine, run in a clean environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.programs import debian_packages, npm_package
from support.proxy_stand import TOKEN, ProxyStand
from support.stack import Ran
from support.talker import events

VERSIONS = ("2.1.197", "2.1.332")  # what npm picks on an old Node, and what a person has today
VERSION = VERSIONS[-1]
MODELS = ("ANTHROPIC_MODEL", *(f"ANTHROPIC_DEFAULT_{tier}_MODEL" for tier in ("OPUS", "SONNET", "HAIKU")))
QUIET = {"DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1", "DISABLE_AUTOUPDATER": "1", "IS_SANDBOX": "1"}


def program(version: str = VERSION) -> Path:
    """The client, installed from npm into the user's cache once. LLMSTACK_TEST_CLAUDE names one to use instead."""
    given = os.environ.get("LLMSTACK_TEST_CLAUDE")
    if given and version == VERSION:
        return Path(given)
    debian_packages(("npm",), ("nodejs", "npm"))
    return npm_package(str(shutil.which("npm")), f"@anthropic-ai/claude-code@{version}") / "claude"


def plain(url: str, token: str) -> dict[str, str]:
    """The environment of a client that only has its base URL, its token and its models set."""
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": token,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        **dict.fromkeys(MODELS, "local-model"),
    }


@dataclass(frozen=True)
class Claude:
    """program: the client. home and work: folders of its own."""

    program: Path
    home: Path
    work: Path

    def environment(self, stand: ProxyStand, **more: str) -> dict[str, str]:
        self.home.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        own = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        return own | plain(stand.url, TOKEN) | QUIET | more

    def run(self, stand: ProxyStand, prompt: str, *arguments: str, timeout_s: float = 90, **environment: str) -> Ran:
        done = subprocess.run(
            [str(self.program), "-p", prompt, "--dangerously-skip-permissions", *arguments],
            env=self.environment(stand, **environment),
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        return Ran(done.returncode, done.stdout, done.stderr)


def run(
    command: list[str], environment: dict[str, str], root: Path, directory: str, *, timeout_s: float = 150
) -> dict[str, Any]:
    """The log line of the request that the client's main loop made.

    root: the stack's LLMSTACK_HOME; beside it lie the client's own home and the directory that it works in.
    """
    work = root.parent / directory
    work.mkdir(exist_ok=True)
    own = {"PATH": os.environ["PATH"], "HOME": str(root.parent)} | QUIET
    log = root / "state" / "logs" / "proxy.log"
    before = len(events(log, "request"))
    done = subprocess.run(
        command, env=own | environment, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout_s,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answered = [line for line in events(log, "request")[before:] if "prefix" in line]
    return max(answered, key=lambda line: line["tokens_in"])
