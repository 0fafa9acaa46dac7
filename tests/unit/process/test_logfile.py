"""Log files: stamped, rotated, followed; no line is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmstack.process.logfile import KEPT, Follower, LogWriter, parse, read, rotated


def test_a_line_comes_back_with_its_time_to_the_millisecond(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "server.log")
    writer.write(1_700_000_000.125, "model loaded: ü\u2028 end")
    [line] = read("server", tmp_path / "server.log")
    assert (line.time_s, line.service, line.text) == (1_700_000_000.125, "server", "model loaded: ü\u2028 end")


def test_a_torn_line_is_left_out() -> None:
    assert parse("server", b"2026-11-20T17:0") is None
    assert parse("server", b"no stamp at all\n") is None


def test_rotation_keeps_the_youngest_files_only(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    writer = LogWriter(path, max_bytes=200)
    for number in range(100):
        writer.write(1.0 + number, f"line {number}")
    texts = [line.text for line in read("server", path)]
    assert texts[-1] == "line 99"
    assert texts == [f"line {number}" for number in range(100 - len(texts), 100)]
    assert not rotated(path, KEPT + 1).exists()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_a_follower_sees_every_line_once_over_any_rotation(
    tmp_path_factory: pytest.TempPathFactory, bursts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("logs") / "server.log"
    writer = LogWriter(path, max_bytes=250)
    follower = Follower("server", path)
    expected, seen = [], []
    for burst in bursts:
        for _ in range(burst):
            text = f"line {len(expected)}"
            expected.append(text)
            writer.write(float(len(expected)), text)
        seen += [line.text for line in follower.lines()]
    assert seen == expected


def test_a_follower_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "proxy.log"
    follower = Follower("proxy", path)
    assert list(follower.lines()) == []
    LogWriter(path).write(5.0, "first")
    assert [line.text for line in follower.lines()] == ["first"]


def test_half_a_line_is_held_back_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.touch()
    follower = Follower("server", path)
    with path.open("ab", buffering=0) as stream:
        stream.write(b"2026-11-20T17:05:01.123Z hal")
        assert list(follower.lines()) == []
        stream.write(b"f\n")
        assert [line.text for line in follower.lines()] == ["half"]
