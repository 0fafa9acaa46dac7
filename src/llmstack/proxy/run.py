"""One question to the upstreams, and everyone who waits for its answer.

| event                                     | what happens                                                     |
| ----------------------------------------- | ---------------------------------------------------------------- |
| a client asks                             | a Run begins, the client listens                                 |
| the same bytes again, same session        | the client listens to the running one, from its first byte      |
| the last listener leaves                  | after a short grace the upstream's connection is closed          |
| a listener falls far behind               | the upstream is read no further until it has caught up           |
| nothing was said for a while              | a keepalive event is put into the stream                         |

The resend of a client that gave up arrives within the grace, so a long prefill is not started again (tale#3396).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable

from llmstack.catalog.routes import Target
from llmstack.protocol import sse
from llmstack.protocol.anthropic import BlockStart, Event
from llmstack.protocol.errors import Cause, Failure, Kind, Refused
from llmstack.protocol.message import Assembler
from llmstack.protocol.stream import MessageStream
from llmstack.warmstart.audit import Audit

BACKLOG = 1024 * 1024  # bytes a listener may be behind before the upstream has to wait
KEPT_FOR_JOINING = 16 * 1024 * 1024


class Listener:
    """One client of a run: how far it has read, and how it is woken."""

    __slots__ = ("_wake", "gone", "position", "read")

    def __init__(self) -> None:
        self.position = 0  # index into Run.pieces
        self.read = 0  # bytes
        self.gone = False
        self._wake: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def leave(self) -> None:
        self.gone = True
        self.wake()

    async def wait(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None


class Run:
    """pieces: the stream so far, as sent to clients. refused: the failure, if nothing was sent before it.

    handover: an Anthropic upstream is next; each client passes its own request on.
    """

    def __init__(self, key: Hashable, *, streaming: bool, grace_s: float) -> None:
        self.key = key
        self.streaming = streaming
        self.pieces: list[bytes] = []
        self.size = 0
        self.done = False
        self.refused: Failure | None = None
        self.handover: Target | None = None
        self.stream: MessageStream | None = None
        self.assembler = Assembler()
        self.upstream = ""
        self.fallback = ""
        self.retries = 0
        self.first_byte: float | None = None  # of the upstream's answer
        self.first_token: float | None = None  # monotonic seconds; a keepalive is none
        self.queue_ms: float | None = None
        self.sent_body = b""
        self.audit: Audit | None = None
        self.conversation = ""  # session and agent of the client, where it names them
        self._grace_s = grace_s
        self._listeners: set[Listener] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self.on_done: Callable[[Run], None] | None = None

    # ---- its life ---------------------------------------------------------------------------------------

    def start(self, work: Callable[[Run], Awaitable[None]]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work(work))

    async def _work(self, work: Callable[[Run], Awaitable[None]]) -> None:
        try:
            await work(self)
        except Refused as refused:
            self.fail(refused.failure)
        except asyncio.CancelledError:
            self.fail(Failure(Kind.OVERLOADED, "the request was given up", Cause.STOPPING, retry_after_s=2))
        finally:
            self.finish()

    def stop(self, failure: Failure) -> None:
        """Ends it now, with an error event where a stream has begun."""
        self.fail(failure)
        self.finish()
        if self._task is not None:
            self._task.cancel()

    def finish(self) -> None:
        if self.done:
            return
        self.done = True
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if self.on_done is not None:
            self.on_done(self)
        for listener in self._listeners:
            listener.wake()

    @property
    def task(self) -> asyncio.Task[None] | None:
        return self._task

    # ---- the upstream's side ----------------------------------------------------------------------------

    def emit(self, events: list[Event]) -> None:
        if not events or self.done:
            return
        if self.first_token is None and any(isinstance(event, BlockStart) for event in events):
            self.first_token = time.monotonic()
        if not self.streaming:
            self.assembler.receive(events)
            return
        data = sse.encode_all(events)
        self.pieces.append(data)
        self.size += len(data)
        for listener in self._listeners:
            listener.wake()

    def fail(self, failure: Failure) -> None:
        """Before anything was sent it is an HTTP status, later an error event."""
        if self.done:
            return
        if self.stream is not None and self.streaming and self.size:
            self.emit(self.stream.fail(failure))
        elif self.refused is None:
            self.refused = failure

    async def room(self) -> None:
        """Waits while the slowest listener is too far behind."""
        while self._listeners and self.size - min(listener.read for listener in self._listeners) > BACKLOG:
            self._room.clear()
            await self._room.wait()

    def keepalive(self) -> None:
        if self.stream is not None and not self.done:
            self.emit(self.stream.keepalive())

    # ---- the clients' side ------------------------------------------------------------------------------

    @property
    def joinable(self) -> bool:
        return not self.done and self.size < KEPT_FOR_JOINING

    def listen(self) -> Listener:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        listener = Listener()
        self._listeners.add(listener)
        return listener

    def take(self, listener: Listener) -> bytes:
        """What this listener has not had yet."""
        pieces = self.pieces
        if listener.position == len(pieces):
            return b""
        data = pieces[-1] if listener.position == len(pieces) - 1 else b"".join(pieces[listener.position :])
        listener.position = len(pieces)
        listener.read += len(data)
        if self.size > KEPT_FOR_JOINING and len(self._listeners) == 1:
            pieces.clear()  # too long to be joined: what was read is not kept
            listener.position = 0
        if not self._room.is_set():
            self._room.set()
        return data

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        self._room.set()
        if not self._listeners and not self.done:
            self._leaving = asyncio.get_running_loop().call_later(self._grace_s, self._abandon)

    def _abandon(self) -> None:
        if not self._listeners and not self.done and self._task is not None:
            self._task.cancel()


class Runs:
    """The running ones, by what was asked."""

    def __init__(self, grace_s: float = 2.0) -> None:
        self.grace_s = grace_s
        self.active: set[Run] = set()
        self._by_key: dict[Hashable, Run] = {}

    def find(self, key: Hashable) -> Run | None:
        run = self._by_key.get(key)
        return run if run is not None and run.joinable else None

    def begin(self, key: Hashable, *, streaming: bool, join: bool, work: Callable[[Run], Awaitable[None]]) -> Run:
        run = Run(key, streaming=streaming, grace_s=self.grace_s if join else 0.0)
        run.on_done = self._forget
        self.active.add(run)
        if join:
            self._by_key[key] = run
        run.start(work)
        return run

    def _forget(self, run: Run) -> None:
        self.active.discard(run)
        if self._by_key.get(run.key) is run:
            del self._by_key[run.key]
