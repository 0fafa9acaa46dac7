"""An event loop in virtual time, and the clocks of a process as this world shows them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import aiohappyeyeballs
import aiohttp.connector

START = 1000.0  # of the monotonic clock
EPOCH = 1_700_000_000.0  # of the wall clock, before it is set by somebody
MOST_STEPS = 400_000


class Stuck(Exception):
    """Nothing will ever happen again, and somebody waits; or far too much happens."""


class VirtualLoop(asyncio.base_events.BaseEventLoop):
    """`after_step` is called after every turn of the loop. What would be a thread runs here, a little later."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.now = START
        self.steps = 0
        self.after_step: Callable[[], None] = lambda: None
        self.unread: list[str] = []
        self.connect: Callable[..., Any] | None = None
        self._dice = dice
        self._selector = self
        self.set_exception_handler(lambda _, context: self.unread.append(_words(context)))

    def time(self) -> float:
        return self.now

    def select(self, timeout: float | None) -> list[Any]:
        """In place of a selector: time jumps to the next thing that was planned."""
        if timeout is None:
            raise Stuck("everybody waits, and nothing is planned")
        if timeout > 0:
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        return []

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Stuck(f"more than {MOST_STEPS} steps")
        self.after_step()

    def _process_events(self, events: list[Any]) -> None:
        assert not events

    def _write_to_self(self) -> None:
        """Nobody sleeps in a select."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """A disk or a supervisor takes its time: what comes in between is the point of it."""
        done = self.create_future()

        def run() -> None:
            if done.cancelled():
                return
            try:
                value = func(*args)
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(value)

        self.call_later(self._dice.choice((0.0, 0.0, 0.001, 0.02)), run, context=contextvars.copy_context())
        return done

    async def create_connection(self, protocol_factory: Any, *_: Any, sock: Any = None, **__: Any) -> Any:
        return sock.opened(protocol_factory())

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """There is none."""


def _words(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return f"{context.get('message')}: {type(error).__name__}: {error}" if error else str(context.get("message"))


class WallClock:
    """Set by somebody at moments of its own; steps False: it goes as the other one does."""

    def __init__(self, loop: VirtualLoop, dice: random.Random, *, steps: bool) -> None:
        self._loop = loop
        moments = sorted(START + dice.random() * 30 for _ in range(dice.randrange(4)))
        self._steps = [(at, dice.choice((-86400.0, -30.0, -1.0, 3.0, 600.0, 1e7))) for at in moments] if steps else []

    def time(self) -> float:
        now = self._loop.now
        return EPOCH + now + sum(step for at, step in self._steps if at <= now)


@contextmanager
def clocks_of(loop: VirtualLoop, wall: WallClock, dice: random.Random) -> Iterator[None]:
    """For this process, while the block runs: time, chance and the order of files are the seed's."""
    touched = [1_000_000_000]
    utime = os.utime

    def touch(path: Any, times: Any = None, **more: Any) -> None:
        if times is None and not more:  # a file system's clock is too coarse to tell two writes apart
            touched[0] += 1_000_000
            more = {"ns": (touched[0], touched[0])}
        utime(path, times, **more)

    async def start_connection(addr_infos: Any, **_: Any) -> Any:
        assert loop.connect is not None
        return await loop.connect(addr_infos[0][4][:2])

    def token_hex(size: int = 32) -> str:
        return dice.randbytes(size).hex()

    with (
        patch.object(time, "monotonic", loop.time),
        patch.object(time, "time", wall.time),
        patch.object(time, "time_ns", lambda: int(wall.time() * 1e9)),
        patch.object(secrets, "token_hex", token_hex),
        patch.object(os, "fsync", lambda _: None),
        patch.object(os, "utime", touch),
        patch.object(aiohttp.connector, "monotonic", loop.time),
        patch.object(aiohappyeyeballs, "start_connection", start_connection),
    ):
        yield
