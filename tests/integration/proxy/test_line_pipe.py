"""The proxy's log goes through a pipe, and nobody has to read it."""

from __future__ import annotations

import os
from pathlib import Path

from llmstack.proxy.line_pipe import QUEUED, LinePipe
from llmstack.proxy.report import Reporter


def test_a_reader_that_stops_reading_stops_nobody() -> None:
    reading, writing = os.pipe()
    lost = 0

    def lose() -> None:
        nonlocal lost
        lost += 1

    lines = LinePipe(writing, lose)
    reporter = Reporter(lines)
    for number in range(3 * QUEUED):
        reporter.event("note", {"number": number, "text": "x" * 100})
    assert lost >= QUEUED
    os.close(reading)  # the writer gets EPIPE, which costs lines too
    lines.close()
    os.close(writing)


def test_all_lines_are_there_once_it_is_closed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as out:
        lines = LinePipe(out.fileno())
        reporter = Reporter(lines)
        for number in range(1000):
            reporter.event("note", {"number": number})
        lines.close()
    assert (tmp_path / "log").read_bytes().count(b"\n") == 1000


def test_a_full_disk_costs_lines() -> None:
    lost = 0

    def lose() -> None:
        nonlocal lost
        lost += 1

    descriptor = os.open("/dev/full", os.O_WRONLY)
    lines = LinePipe(descriptor, lose)
    lines.write("a line\n")
    lines.close()
    os.close(descriptor)
    assert lost == 1
