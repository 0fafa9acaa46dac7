"""What `key add` prints is all that somebody else's Claude Code needs."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from llmstack.demo import SENTENCE
from support.claude_code import QUIET
from support.stack import Stack


def exported(text: str) -> dict[str, str]:
    lines = [line.strip().removeprefix("export ") for line in text.splitlines() if line.startswith("  export ")]
    return dict(shlex.split(line)[0].split("=", 1) for line in lines)


def test_claude_code_answers_with_the_printed_lines_alone(demo_stack: Stack, claude_code: Path, tmp_path: Path) -> None:
    printed = exported(demo_stack.run("key", "add", "kim", "--models", "demo").out)
    assert printed["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "65536"
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [str(claude_code), "-p", "ping"], env=printed | QUIET | {"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=tmp_path / "work", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and SENTENCE.strip() in done.stdout, done.stdout + done.stderr


def test_a_key_for_another_model_is_printed_without_the_deployed_ones_lines(demo_stack: Stack) -> None:
    printed = exported(demo_stack.run("key", "add", "ben", "--models", "cloud-*").out)
    assert set(printed) == {"ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"}
