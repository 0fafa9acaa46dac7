"""Commands that run at once: one goes first, the other waits or says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from support.stack import Stack


@pytest.fixture
def fresh(kind: str, stack_home: Stack) -> Iterator[Stack]:
    yield stack_home
    stack_home.run("uninstall", "--yes")


@pytest.mark.parametrize("kind", ["process"], indirect=True)
def test_two_first_ups_at_once_on_a_fresh_home_end_in_a_stack_that_answers(fresh: Stack) -> None:
    command = [sys.executable, "-m", "llmstack", *fresh.up_command()]
    both = [
        subprocess.Popen(command, env=fresh.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    ends = [(process.communicate(timeout=180)[0], process.returncode) for process in both]
    assert 0 in [status for _, status in ends], ends
    for said, status in ends:
        assert status == 0 or "another llmstack command is changing this stack" in said, said
        assert "itself failed" not in said and "Traceback" not in said
    assert fresh.run("status", "--json").json["state"] == "ready"
    assert not list((fresh.root / "data" / "models").glob(".*.partial"))
