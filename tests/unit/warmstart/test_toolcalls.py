"""The remembered tool calls on disk: whole lines count, torn ones are named, the last ones are kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from llmstack.protocol.replay import MOST, MOST_BYTES, Generated, Replay
from llmstack.warmstart.store import Store
from llmstack.warmstart.toolcalls import StoredToolCall, ToolCallStore

from .conftest import Said

CALLS = [
    StoredToolCall(f"toolu_{n:09}", f"up{n}", f'{{"command": "echo {n} \\u00e9", "timeout": "{n}"}}') for n in range(8)
]


@pytest.fixture
def log(tmp_path: Path, said: Said) -> ToolCallStore:
    return ToolCallStore(tmp_path / "slots", log_event=said)


def test_what_was_added_is_read_back_in_order_and_only_its_owner_can_read_it(log: ToolCallStore) -> None:
    log.add(CALLS[:3])
    log.add(CALLS[3:])
    assert log.read() == log.recover() == CALLS
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_a_call_by_name_is_remembered_as_one(log: ToolCallStore) -> None:
    log.add([*CALLS[:1], StoredToolCall("toolu_by_name", "up", '{"name":"A","arguments":{}}', caller="call")])
    assert [call.generated.caller for call in log.read()] == ["", "call"]


def test_no_file_is_an_empty_memory(log: ToolCallStore, said: Said) -> None:
    assert log.read() == log.recover() == [] and not said.lines


def test_a_file_torn_at_any_byte_loses_its_last_line_only_and_is_named_once(log: ToolCallStore, said: Said) -> None:
    log.add(CALLS[:2])
    whole = log.path.read_bytes()
    log.add(CALLS[2:3])
    data = log.path.read_bytes()
    for size in range(len(whole) + 2, len(data)):
        log.path.write_bytes(data[:size])
        said.lines.clear()
        assert log.recover() == CALLS[:2], size
        assert said.lines == [
            {"event": "snapshot", "result": "ignored", "file": "calls.replay", "why": "1 of its 3 lines are not whole"}
        ]
        assert log.path.read_bytes() == whole


def test_what_is_added_behind_a_torn_line_is_whole(log: ToolCallStore) -> None:
    log.add(CALLS[:2])
    log.path.write_bytes(log.path.read_bytes()[:-5])
    log.add(CALLS[2:])
    assert log.read() == [CALLS[0], *CALLS[2:]]


def test_a_changed_byte_makes_its_line_worthless(log: ToolCallStore) -> None:
    log.add(CALLS)
    data = bytearray(log.path.read_bytes())
    data[data.index(b"echo 5") + 5] = ord("6")
    log.path.write_bytes(data)
    assert log.read() == [*CALLS[:5], *CALLS[6:]]


def test_a_file_that_cannot_be_read_is_named_and_is_no_fault(log: ToolCallStore, said: Said) -> None:
    log.path.mkdir(parents=True)
    assert log.recover() == []
    assert said.lines[0]["why"] == "Is a directory"


def test_the_file_stays_bounded_and_keeps_the_last_calls(log: ToolCallStore) -> None:
    big = "x" * (MOST_BYTES // 8)
    for number in range(40):
        log.add([StoredToolCall(f"toolu_{number:09}", "", f'{{"a": "{big}"}}')])
        assert log.path.stat().st_size < 3 * MOST_BYTES
    kept = log.read()
    assert [call.tool_use_id for call in kept] == [f"toolu_{n:09}" for n in range(33, 40)]
    log.add([StoredToolCall(f"small_{number:09}", "", "{}") for number in range(MOST + 1)])
    assert len(log.read()) == MOST


def test_clear_removes_the_calls_and_a_sweep_what_a_killed_rewrite_left(log: ToolCallStore) -> None:
    log.add(CALLS)
    left = log.path.parent / ".calls.replay.4711"
    left.write_bytes(b"half")
    store = Store(log.path.parent)
    store.sweep()
    assert left.exists(), "somebody may still be writing it"
    os.utime(left, (time.time() - 100,) * 2)
    store.sweep()
    assert not left.exists()
    assert log.clear() > 0 and not log.path.exists()
    assert log.clear() == 0


def test_calls_of_an_earlier_life_are_older_than_those_of_this_one() -> None:
    replay = Replay(most=3)
    replay.remember("new-000001", Generated("", '{"n": 1}'))
    replay.recall([("old-000001", Generated("", "{}")), ("old-000002", Generated("", "{}")),
                   ("old-000003", Generated("", "{}")), ("new-000001", Generated("", '{"n": 0}'))])  # fmt: skip
    assert not replay.knows("old-000001")
    assert replay.knows("old-000002") and replay.knows("old-000003")
    found = replay.get("new-000001")
    assert found is not None and found.arguments == '{"n": 1}'
    assert [name for name, _ in replay.unsaved()] == ["new-000001"]
    assert replay.unsaved() == []
