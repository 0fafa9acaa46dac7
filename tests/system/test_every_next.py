"""What follows `next:` is typed into a shell as it stands: it runs, and what was wrong is not wrong any more.

The program is called by a path with spaces. Words in capitals (MODEL, NAME) are for the reader to fill in: such a line
is only looked at, as tests/unit/cli/test_every_next.py does for every command of the source.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.stack import Ran, Stack

PLACEHOLDER = re.compile(r"(?<![\w/])(?:MODEL|NAME|FILE|OTHER|PORT|URL|FLAG|A|B|N|M)(?![\w/])|…")


@dataclass(frozen=True)
class Called:
    """The program at a path with spaces, in a home of its own."""

    stack: Stack
    program: Path

    def shell(self, line: str) -> Ran:
        environment = self.stack.environment | {"LLMSTACK_COMMAND": str(self.program), "COLUMNS": "80"}
        done = subprocess.run(
            ["bash", "-c", line], env=environment, cwd=self.program.parent, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=170,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    def run(self, *words: str) -> Ran:
        return self.shell(shlex.join([str(self.program), *words]))

    def hints(self, ran: Ran) -> list[str]:
        """The commands of this program in what follows `next:` (an error's, a finding's, the last line of `status`)."""
        lines = [line for line in (ran.out + ran.err).splitlines() if re.match(r"\s*(?:.*\b)?next:?\s", line)]
        spelled = shlex.quote(str(self.program))
        return [
            re.split(r"\s{3}|;|, |\)", f"{spelled}{part}")[0].strip()
            for line in lines
            for part in line.split(spelled)[1:]
        ]


@pytest.fixture
def called(stack_home: Stack, tmp_path: Path) -> Iterator[Called]:
    program = tmp_path / "my llm stack" / "stack"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nLLMSTACK_COMMAND=$0 exec {shlex.quote(sys.executable)} -P -m llmstack "$@"\n')
    program.chmod(0o755)
    yield Called(stack_home, program)


def first_line(ran: Ran) -> str:
    return next((line for line in (ran.err + ran.out).splitlines() if "error:" in line or ":" in line), "")


def follow(called: Called, *words: str, most: int = 5) -> Ran:
    """Types what each `next:` says until the command works. Fails where a hint is no command, or changes nothing."""
    ran = called.run(*words)
    for _ in range(most):
        if ran.status == 0:
            return ran
        runnable = [hint for hint in called.hints(ran) if not PLACEHOLDER.search(hint)]
        assert runnable, f"{words}: no command to type in {ran.out}{ran.err}"
        typed = called.shell(runnable[0])
        assert typed.status in (0, 1), f"{runnable[0]}: {typed.out}{typed.err}"
        assert "Traceback" not in typed.err and "itself failed" not in typed.err
        if "--help" in runnable[0] or typed.status == 0:
            return typed
        again = called.run(*words)
        assert again.status == 0 or first_line(again) != first_line(ran), f"{runnable[0]} changed nothing: {again.err}"
        ran = again
    raise AssertionError(f"{words}: {most} hints, and it still fails: {ran.err}")


@pytest.mark.parametrize(
    "words",
    [
        ("statsu",), ("models", "lits"), ("engine", "lst"), ("upstream", "lst"), ("down", "--sideways"),
        ("engine", "use", "nope"), ("engine", "remove", "nope"), ("uninstall",), ("upstream", "remove", "nope"),
        ("up", "--proxy-only", "--demo"), ("status", "--watch", "--json"), ("bench", "--against", "/etc/hostname"),
        ("plan", "--explain", "ub"), ("models", "remove", "nope"), ("bench", "compare"), ("bench", "history", "x"),
        ("upstream", "offline", "no"), ("cache", "claer"), ("plan", "qwen3-1.7b", "--vram", "xx"),
    ],
)  # fmt: skip
def test_of_a_slip(called: Called, words: tuple[str, ...]) -> None:
    ran = called.run(*words)
    assert ran.status != 0
    for hint in called.hints(ran):
        if PLACEHOLDER.search(hint) or "--watch" in hint or " up" in hint or "uninstall" in hint:
            continue
        typed = called.shell(hint)
        assert typed.status in (0, 1), f"{hint}: {typed.err}"


@pytest.mark.parametrize("words", [("env", "--profile", "cerebras"), ("token",)])
def test_on_a_fresh_home_the_proxy_alone_is_enough(called: Called, words: tuple[str, ...]) -> None:
    config = called.stack.root / "config"
    config.mkdir(parents=True)
    assert called.run("up", "--proxy-only", *called.stack.ports[:2]).status == 0
    called.run("down")
    for file in ("proxy.json", "token"):
        (called.stack.root / "state" / file).unlink()
    follow(called, *words)


def test_of_a_fresh_home_to_a_stack_that_is_measured(called: Called) -> None:
    """Each command that needs a stack leads to one; stopped, damaged and started again."""
    status = called.run("status")
    assert any(hint.endswith("up --demo") for hint in called.hints(status))
    for words in (("bench",), ("warm",), ("restart",), ("env",), ("logs",)):
        refused = called.run(*words)
        assert refused.status == 1
        assert any(hint.endswith("up --demo") for hint in called.hints(refused)), refused.err
    assert called.run("up", "--demo", *called.stack.ports).status == 0
    called.run("down")
    for words in (("warm",), ("status",)):
        follow(called, *words)
        called.run("down")
    taken = f"127.0.0.1:{called.stack.proxy_port}"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import socket,time; s=socket.create_server(('127.0.0.1',{called.stack.proxy_port}));"
         "print('up', flush=True); time.sleep(600)"],
        stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        follow(called, "up", "--demo")
        assert taken not in called.run("status").out
    finally:
        holder.kill()
        holder.wait()
    (called.stack.root / "state" / "stack.json").write_text("garbage")
    damaged = called.run("status")
    assert damaged.status == 1 and any("up MODEL" in hint for hint in called.hints(damaged))
