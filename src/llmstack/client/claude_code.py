"""Finds Claude Code and becomes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from llmstack.client.environment import ClientEnvironment
from llmstack.errors import MissingPart

INSTALL = "npm install -g @anthropic-ai/claude-code"


def find_claude() -> str:
    """The path of Claude Code. Raises MissingPart with how to install it."""
    program = shutil.which("claude")
    if program is not None:
        return program
    if shutil.which("npm") is None:
        raise MissingPart(
            "Claude Code is not installed: there is no `claude` on PATH",
            why="it comes from npm, and npm is missing as well",
            next=f"install Node.js 18 or newer (apt install nodejs npm, brew install node), then: {INSTALL}",
        )
    raise MissingPart("Claude Code is not installed: there is no `claude` on PATH", next=INSTALL)


def exec_claude(program: str, environment: ClientEnvironment, arguments: Sequence[str]) -> None:
    """Replaces this process, so that Claude Code's exit status and signals are its own."""
    argv = ["claude", *environment.arguments(arguments), *arguments]
    os.execve(program, argv, environment.over(os.environ))
