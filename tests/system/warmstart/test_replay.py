"""A session of tool calls whose client sends other arguments back than it was sent, and a restart in its middle.

The demo model may spell a call with other tokens than its text has, so of the newest call no reuse is asked.
"""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from support.stack import Stack
from support.talker import Answer, Talker, events
from support.tool_session import Session, added


@pytest.fixture
def session(stack_home: Stack) -> Session:
    stack_home.up()
    return Session(Talker(stack_home.url, stack_home.token, session="tools"))


def assert_only_new_was_read(answer: Answer, before: Answer) -> None:
    """All of the last prompt, so every call before the last, is in the cache, and the answer's text behind it."""
    assert before.total < answer.cached


def test_after_a_restart_the_next_turn_reads_only_what_is_new(session: Session, stack_home: Stack) -> None:
    answers = [session.turn() for _ in range(4)]
    for before, answer in pairwise(answers):
        assert_only_new_was_read(answer, before)
    kept = stack_home.root / "cache" / "slots" / "calls.replay"
    assert stack_home.run("restart").status == 0
    assert kept.stat().st_mode & 0o777 == 0o600
    after = session.turn()
    assert_only_new_was_read(after, answers[-1])
    assert added(after, answers[-1]) == added(answers[1], answers[0])  # the last call too comes as the model wrote it
    deadline = time.monotonic() + 30
    while stack_home.run("cache", "list", "--json").json["tool_calls"]["calls"] < 5:  # the last one is written behind
        assert time.monotonic() < deadline
    assert "tool calls as the model wrote them" in stack_home.run("cache", "list").out
    assert stack_home.run("cache", "clear").status == 0
    assert not kept.exists()


def test_a_killed_proxy_loses_a_second_of_it_at_most(session: Session, stack_home: Stack) -> None:
    answers = [session.turn() for _ in range(3)]
    time.sleep(1.5)
    os.kill(stack_home.run("status", "--json").json["services"]["proxy"]["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while stack_home.run("status", "--json").json["state"] != "ready":
        assert time.monotonic() < deadline
    after = session.turn()
    assert_only_new_was_read(after, answers[-1])
    assert added(after, answers[-1]) == added(answers[1], answers[0])


def test_a_torn_memory_costs_its_torn_part_and_the_log_names_it(session: Session, stack_home: Stack) -> None:
    answers = [session.turn() for _ in range(3)]
    assert stack_home.run("down").status == 0
    kept: Path = stack_home.root / "cache" / "slots" / "calls.replay"
    kept.write_bytes(kept.read_bytes()[:-7])
    assert stack_home.run("up").status == 0
    after = session.turn()
    # The last call comes as the client wrote it; the ones before it as the model did.
    assert_only_new_was_read(after, answers[-1])
    assert added(after, answers[-1]) != added(answers[1], answers[0])
    named = [line for line in events(stack_home.root / "state" / "logs" / "proxy.log", "snapshot")
             if line.get("file") == "calls.replay"]  # fmt: skip
    assert [line["result"] for line in named] == ["ignored"]
