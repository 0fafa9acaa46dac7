"""Whose turn it is at the local server, when more is asked of it than it has slots: turns go round by key.

llama-server has one queue: behind one person's 24 requests everybody waits for all of them. So where a stack has keys,
no more than its slots are sent to it; of those that wait, whoever was served longest ago comes next. A request waits
for one turn of each other key at most. Without keys nobody waits here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from llmstack.catalog.routes import Target
from llmstack.protocol.errors import Failure, Refused
from llmstack.proxy.callers import Caller
from llmstack.recent import Recent

_NAMES = 1024


class FairTurns:
    """room(): how many may be asked of the server at once; None for no limit. refusal(caller): why one that has waited
    may not go on after all."""

    def __init__(
        self,
        room: Callable[[], int | None] = lambda: None,
        refusal: Callable[[Caller], Failure | None] = lambda caller: None,
    ) -> None:
        self._room = room
        self._refusal = refusal
        self._running = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._served: Recent[str, int] = Recent(_NAMES)  # by key: the number of its last turn
        self._turns = 0

    @property
    def waiting(self) -> int:
        return sum(len(line) for line in self._waiting.values())

    @asynccontextmanager
    async def turn(self, target: Target, caller: Caller) -> AsyncIterator[None]:
        """Around what is asked of a target. Raises Refused for a caller whose key ended while it waited."""
        if not target.is_local:
            yield
            return
        await self._begin(caller.name)
        try:
            failure = self._refusal(caller)
            if failure is not None:
                raise Refused(failure)
            yield
        finally:
            self._running -= 1
            self._go_on()

    async def _begin(self, key: str) -> None:
        room = self._room()
        if room is None or (self._running < room and not self._waiting):
            self._serve(key)
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(ready)
        self._go_on()
        try:
            await ready
        except asyncio.CancelledError:
            if ready.done() and not ready.cancelled():  # its turn had just come: the next one's now
                self._running -= 1
            else:
                self._leave(key, ready)
            self._go_on()
            raise

    def _go_on(self) -> None:
        while self._waiting and ((room := self._room()) is None or self._running < room):
            key = min(self._waiting, key=lambda name: self._served.get(name) or 0)
            ready = self._waiting[key][0]
            self._leave(key, ready)
            if not ready.cancelled():
                self._serve(key)
                ready.set_result(None)

    def _serve(self, key: str) -> None:
        self._running += 1
        self._turns += 1
        self._served.put(key, self._turns)

    def _leave(self, key: str, ready: asyncio.Future[None]) -> None:
        """Who was cancelled may have been passed over already, before it came to say so."""
        line = self._waiting.get(key, deque())
        if ready in line:
            line.remove(ready)
        if not line:
            self._waiting.pop(key, None)
