"""A session of tool calls whose client sends other arguments back than it was sent, and a restart in its middle."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from warming.talk import Answer, Talker, events

from ..conftest import StackHome

SHELL = {
    "name": "Bash",
    "description": "Runs a command.",
    "input_schema": {
        "type": "object",
        "properties": {
            "command": {"type": "string", "enum": ["make", "make check"]},
            "timeout": {"type": "string", "enum": ["5000", "60000"]},
            "description": {"type": "string", "enum": ["builds it", "checks it"]},
        },
        "required": ["command", "timeout", "description"],
    },
}


def rewritten(call: dict[str, Any]) -> dict[str, Any]:
    """As Claude Code does: the keys in another order, a number instead of its digits."""
    keys = sorted(call["input"], reverse=True)
    return {**call, "input": {k: int(v) if (v := call["input"][k]).isdigit() else v for k in keys}}


class Session:
    def __init__(self, home: StackHome) -> None:
        self.talker = Talker(home.url, home.token, session="tools")
        self.turns: list[Any] = ["build it"]

    def turn(self) -> Answer:
        forced = {"type": "any", "disable_parallel_tool_use": True}
        answer = self.talker.ask(*self.turns, max_tokens=120, tools=[SHELL], tool_choice=forced)
        [call] = [block for block in answer.content if block["type"] == "tool_use"]
        sent = rewritten(call)
        assert list(sent["input"]) != list(call["input"]) and sent["input"] != call["input"]
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": f"done {len(self.turns)}"}
        said = [sent if block is call else block for block in answer.content]
        self.turns += [{"role": "assistant", "content": said}, {"role": "user", "content": [result]}]
        return answer


def new_tokens(answer: Answer, before: Answer) -> int:
    """Of the prompt: what neither the last prompt nor the last answer held."""
    return answer.total - before.total - before.output


@pytest.fixture
def session(stack_home: StackHome) -> Session:
    stack_home.up_demo()
    return Session(stack_home)


def test_after_a_restart_the_next_turn_reads_only_what_is_new(session: Session, stack_home: StackHome) -> None:
    answers = [session.turn() for _ in range(4)]
    for before, answer in pairwise(answers):
        assert answer.computed <= new_tokens(answer, before) + 64
    kept = stack_home.root / "cache" / "slots" / "calls.replay"
    assert stack_home.run("restart").status == 0
    assert kept.stat().st_mode & 0o777 == 0o600
    after = session.turn()
    assert after.computed <= new_tokens(after, answers[-1]) + 64
    listed = stack_home.run("cache", "list", "--json").json
    assert listed["tool_calls"]["calls"] >= 4
    assert "tool calls as the model wrote them" in stack_home.run("cache", "list").out
    assert stack_home.run("cache", "clear").status == 0
    assert not kept.exists()


def test_a_killed_proxy_loses_a_second_of_it_at_most(session: Session, stack_home: StackHome) -> None:
    answers = [session.turn() for _ in range(3)]
    time.sleep(1.5)
    os.kill(stack_home.run("status", "--json").json["services"]["proxy"]["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while stack_home.run("status", "--json").json["state"] != "ready":
        assert time.monotonic() < deadline
    after = session.turn()
    assert after.computed <= new_tokens(after, answers[-1]) + 64


def test_a_torn_memory_costs_its_torn_part_and_the_log_names_it(session: Session, stack_home: StackHome) -> None:
    answers = [session.turn() for _ in range(3)]
    assert stack_home.run("down").status == 0
    kept: Path = stack_home.root / "cache" / "slots" / "calls.replay"
    kept.write_bytes(kept.read_bytes()[:-7])
    assert stack_home.run("up").status == 0
    after = session.turn()
    # The last call comes as the client wrote it; the ones before it as the model did.
    assert answers[-1].total - 64 <= after.cached
    named = [line for line in events(stack_home.root / "state" / "logs" / "proxy.log", "snapshot")
             if line.get("file") == "calls.replay"]  # fmt: skip
    assert [line["result"] for line in named] == ["ignored"]
