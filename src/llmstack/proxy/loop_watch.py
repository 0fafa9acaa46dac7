"""How long the event loop stood: everything the proxy does waits meanwhile, and systemd's watchdog ends it at last.

A mark is set every BEAT_S; a late one says how long the loop stood, and this thread's CPU time says why: it was busy
with work of its own, or blocked (a disk, a pipe, a machine without a free processor). A thread beside the loop looks
where it stands when a mark is overdue, so that the log line can name the place.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram

BEAT_S = 0.1
NOTED_S = 0.05  # less is a usual pause between two steps
LOGGED_S = 0.25
_OVERDUE_S = 0.15  # the place is looked for
_MOST_FRAMES = 4
BUSY, BLOCKED = "busy", "blocked"
LARGE = 128 * 1024  # bytes of a request from which its steps are taken one by one


async def others_turn(size: int) -> None:
    """Between two steps over a request of so many bytes: a large one lets others have the loop in between."""
    if size > LARGE:
        await asyncio.sleep(0)


class LoopWatch:
    """clock and cpu: seconds, of the wall and of this thread's work."""

    def __init__(
        self,
        registry: CollectorRegistry,
        log_event: Callable[[str, dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._log_event = log_event
        self._clock = clock
        self._cpu = cpu
        self._working: Counter[str] = Counter()
        self._place = ""
        self._beat_at = clock()
        self._cpu_at = cpu()
        self._over = threading.Event()
        self.stood = Histogram(
            "llmstack_loop_stood_seconds",
            "How long the event loop stood, each time it did for 50 ms or more",
            ["why"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self.longest = Gauge(
            "llmstack_loop_stood_longest_seconds", "The longest of them since the start", ["why"], registry=registry
        )
        for why in (BUSY, BLOCKED):
            self.stood.labels(why)
            self.longest.labels(why).set(0.0)
        self._most = dict.fromkeys((BUSY, BLOCKED), 0.0)

    @contextmanager
    def working_on(self, kind: str) -> Iterator[None]:
        """Around a request: a line about a standing loop names the kinds that were at work."""
        self._working[kind] += 1
        try:
            yield
        finally:
            self._working[kind] -= 1

    async def watch(self) -> None:
        """Runs beside the requests until it is cancelled."""
        thread = threading.Thread(target=self._look, args=(threading.get_ident(),), daemon=True, name="loop-watch")
        self._mark()
        thread.start()
        try:
            while True:
                await asyncio.sleep(BEAT_S)
                self.beat()
        finally:
            self._over.set()

    def beat(self) -> None:
        """A mark: what lies between it and the last one beyond BEAT_S is time in which nothing else ran."""
        late = self._clock() - self._beat_at - BEAT_S
        worked = self._cpu() - self._cpu_at
        if late >= NOTED_S and worked >= late / 2:
            self._note(min(late, worked), BUSY)  # not the time in which other programs had the processor
        elif late >= NOTED_S:
            self._note(late, BLOCKED)
        self._mark()

    def _mark(self) -> None:
        self._place = ""
        self._cpu_at = self._cpu()
        self._beat_at = self._clock()

    def _note(self, late: float, why: str) -> None:
        self.stood.labels(why).observe(late)
        if late > self._most[why]:
            self._most[why] = late
            self.longest.labels(why).set(late)
        if late >= LOGGED_S:
            fields: dict[str, Any] = {"ms": round(late * 1000), "why": why}
            if kinds := {kind: count for kind, count in self._working.items() if count}:
                fields["requests"] = kinds
            if self._place:
                fields["at"] = self._place
            self._log_event("stood", fields)

    def _look(self, thread: int) -> None:
        while not self._over.wait(BEAT_S):
            if self._clock() - self._beat_at > BEAT_S + _OVERDUE_S and not self._place:
                frame = sys._current_frames().get(thread)
                self._place = place_of(frame) if frame is not None else ""


def place_of(frame: FrameType) -> str:
    """The innermost lines of ours, without what they hold."""
    lines: list[str] = []
    at: FrameType | None = frame
    while at is not None and len(lines) < _MOST_FRAMES:
        path = Path(at.f_code.co_filename)
        if "llmstack" in path.parts:
            lines.append(f"{path.name}:{at.f_lineno}")
        at = at.f_back
    return " < ".join(lines)
