"""Log files: stamped, rotated, followed; no line is lost or doubled."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmstack.process.logfile import KEPT, QUEUED, Follower, LogThread, LogWriter, parse, read, rotated


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


class Disk:
    """os.write of one file, as a disk of limited room has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        fits = data[: self.room]
        if not fits:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(fits)
        return self._write(descriptor, fits)


def test_a_full_disk_costs_lines_and_never_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    writer = LogWriter(tmp_path / "server.log", clock=lambda: now[0])
    disk = Disk(monkeypatch, 60)
    for number in range(10):
        writer.write(1.0 + number, f"line {number}")
    assert writer.lost == 9 and writer.problem == "No space left on device"
    disk.room = 1 << 20
    writer.write(20.0, "too early to try again")
    now[0] += 2
    writer.write(21.0, "after")
    assert writer.problem == "" and writer.lost == 10
    texts = [line.text for line in read("server", tmp_path / "server.log")]
    assert texts[0] == "line 0"
    assert texts[-2:] == ["llmstack: 10 lines of this log were lost: No space left on device", "after"]


def test_a_folder_that_is_gone_comes_back(tmp_path: Path) -> None:
    now = [0.0]
    (tmp_path / "logs").write_text("a file where the folder should be")
    writer = LogWriter(tmp_path / "logs" / "server.log", clock=lambda: now[0])
    writer.write(1.0, "lost")
    assert writer.lost == 1 and writer.problem
    (tmp_path / "logs").unlink()
    now[0] += 2
    writer.write(2.0, "there")
    assert [line.text for line in read("server", tmp_path / "logs" / "server.log")][-1] == "there"


def test_a_log_follows_no_link_and_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "server.log").symlink_to(tmp_path / "elsewhere")
    writer = LogWriter(tmp_path / "server.log")
    writer.write(1.0, "words")
    assert writer.lost == 1 and (tmp_path / "elsewhere").read_text() == ""
    LogWriter(tmp_path / "proxy.log").write(1.0, "words")
    assert (tmp_path / "proxy.log").stat().st_mode & 0o077 == 0


def test_a_disk_that_hangs_stops_nobody_who_writes(tmp_path: Path) -> None:
    class Hanging(LogWriter):
        def write(self, time_s: float, text: str) -> None:
            release.wait(20)
            super().write(time_s, text)

    release = threading.Event()
    log = LogThread(Hanging(tmp_path / "server.log"))
    for number in range(QUEUED + 100):
        log.write(1.0, f"line {number}")
    assert log.lost >= 99 and log.problem
    release.set()
    log.close(60)
    assert log.problem == "" and len(list(read("server", tmp_path / "server.log"))) >= QUEUED
