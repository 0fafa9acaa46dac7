"""The watch on the event loop: what it counts, and what its line says."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from llmstack.proxy.loop_watch import BEAT_S, LoopWatch
from llmstack.recent import Recent


class Clocks:
    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self.lines: list[dict[str, Any]] = []
        self.registry = CollectorRegistry()
        self.watch = LoopWatch(self.registry, self.log, lambda: self.wall, lambda: self.cpu)

    def log(self, event: str, fields: dict[str, Any]) -> None:
        self.lines.append({"event": event, **fields})

    def beat(self, wall: float, cpu: float) -> None:
        self.wall += BEAT_S + wall
        self.cpu += cpu
        self.watch.beat()

    def sample(self, name: str, why: str) -> float | None:
        return self.registry.get_sample_value(f"llmstack_loop_stood_{name}", {"why": why})


def test_work_and_waiting_are_told_apart_and_the_longest_stays() -> None:
    clocks = Clocks()
    clocks.beat(0.01, 0.01)
    clocks.beat(0.4, 0.4)
    clocks.beat(0.2, 0.2)
    clocks.beat(3.0, 0.0)
    assert clocks.sample("seconds_count", "busy") == 2 and clocks.sample("seconds_count", "blocked") == 1
    assert clocks.sample("longest_seconds", "busy") == pytest.approx(0.4)
    assert clocks.sample("longest_seconds", "blocked") == pytest.approx(3.0)


def test_a_line_names_the_kinds_of_requests_and_no_more() -> None:
    clocks = Clocks()
    with clocks.watch.working_on("/v1/messages"), clocks.watch.working_on("/v1/messages"):
        clocks.beat(0.3, 0.3)
    clocks.beat(0.2, 0.2)
    assert clocks.lines == [{"event": "stood", "ms": 300, "why": "busy", "requests": {"/v1/messages": 2}}]


async def test_the_place_where_it_stands_is_in_the_line_and_nothing_that_it_holds() -> None:
    lines: list[dict[str, Any]] = []
    watch = LoopWatch(CollectorRegistry(), lambda event, fields: lines.append(fields))
    task = asyncio.create_task(watch.watch())
    await asyncio.sleep(2 * BEAT_S)
    begun = time.monotonic()

    def stand(value: str) -> int:
        while (not watch._place and time.monotonic() < begun + 20) or time.monotonic() < begun + 0.6:
            sum(range(10_000))
        return len(value)

    Recent[str, str](1, most_size=9, size_of=stand).put("key", "secret")  # code of ours that takes its time
    await asyncio.sleep(3 * BEAT_S)
    task.cancel()
    assert lines and lines[0]["at"].startswith("recent.py:") and "secret" not in str(lines)
