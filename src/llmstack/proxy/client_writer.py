"""The sending side of one request: a SharedAnswer as the client wanted it, streamed or whole.

| silence                              | what happens                                                       |
| ------------------------------------ | ------------------------------------------------------------------ |
| of the upstream, in a stream         | a keepalive event goes into the answer                             |
| of the upstream, for a whole answer  | after two minutes it begins with blanks, which JSON allows before  |
|                                      | a value: the client's own limit is five minutes without a byte     |
| of the client, which takes nothing   | its connection is cut (fault 42)                                   |
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from llmstack.protocol.errors import Failure
from llmstack.proxy.report import RequestRecord
from llmstack.proxy.respond import EVENT_STREAM, JSON, Header, Scope, Send, refuse, start
from llmstack.proxy.shared_answer import LOST, AnswerState, Listener, SharedAnswer


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. slow_reader_s: a client that takes nothing for so long is cut. whole_keepalive_s: silence after which an
    answer that is not streamed begins with blanks. tick_s: between two looks at both; None: decided by the limits."""

    slow_reader_s: float = 60.0
    whole_keepalive_s: float = 120.0
    tick_s: float | None = None


class ClientWriter:
    def __init__(
        self, scope: Scope, send: Send, answer: SharedAnswer, keepalive_s: float, patience: Patience, capturing: bool
    ) -> None:
        """keepalive_s: silence after which something is sent. capturing: what goes out is kept in `sent`."""
        self._scope = scope
        self._send = send
        self._record: RequestRecord = scope["record"]
        self._answer = answer
        self._keepalive_s = keepalive_s
        self._patience = patience
        self._capturing = capturing
        self._started = False
        self._sending_since: float | None = None
        self._last_sent = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self.listener: Listener = answer.listen()
        self.complete = False
        self.sent: list[bytes] = []

    async def write(self) -> None:
        """The answer up to its end. Not complete: the client is gone, or its request is to be handed over."""
        self._arm()
        try:
            await (self._stream() if self._answer.streaming else self._whole())
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _stream(self) -> None:
        answer, listener = self._answer, self.listener
        while not listener.gone:
            data = answer.take(listener)
            if data:
                if not self._started:
                    await self._start(EVENT_STREAM)
                await self._write(data, more=True)
            elif answer.finished:
                break
            else:
                await listener.wait()
        if listener.gone or answer.state is AnswerState.HANDED_OVER:
            return
        if self._started:
            await self._write(b"", more=False)
        else:
            await self._refuse(answer.failure or LOST)
        self.complete = True

    async def _whole(self) -> None:
        answer, listener = self._answer, self.listener
        while not listener.gone and not answer.finished:
            await listener.wait()
            limit_s = self._keepalive_s if self._started else self._patience.whole_keepalive_s
            if answer.finished or listener.gone or time.monotonic() - self._last_sent < limit_s:
                continue
            if not self._started:
                await self._start([JSON])
            await self._write(b" ", more=True)
        if listener.gone or (answer.state is AnswerState.HANDED_OVER and not self._started):
            return
        failure = answer.failure
        if failure is None and (answer.assembler.error is not None or answer.state is AnswerState.HANDED_OVER):
            failure = LOST  # handed over behind blanks of ours: the other upstream's answer has a head of its own
        if self._started:
            await self._write(self._whole_body(failure), more=False)
        elif failure is not None:
            await self._refuse(failure)
        else:
            data = self._whole_body(None)
            await self._start([JSON, (b"content-length", str(len(data)).encode())])
            await self._write(data, more=False)
        self.complete = True

    def _whole_body(self, failure: Failure | None) -> bytes:
        side = self._answer.side
        if failure is not None:
            return side.failure(failure, self._record.id)
        return side.whole(self._answer.assembler.message)

    # ---- sending ----------------------------------------------------------------------------------------

    async def _start(self, headers: list[Header] | tuple[Header, ...]) -> None:
        self._started = True
        self._name_upstream()
        await start(self._scope, self._send, 200, headers)

    async def _refuse(self, failure: Failure) -> None:
        self._name_upstream()
        await refuse(self._scope, self._send, failure)

    def _name_upstream(self) -> None:
        if self._answer.attempts:
            attempt = self._answer.attempts[-1]
            self._record.upstream, self._record.fallback = attempt.upstream, attempt.fallback

    async def _write(self, data: bytes, *, more: bool) -> None:
        self._sending_since = time.monotonic()
        if self._capturing:
            self.sent.append(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._last_sent = time.monotonic()
        self._sending_since = None

    # ---- the timer: keepalive, and the end of patience with a reader that reads nothing ------------------------

    def _arm(self) -> None:
        pause = self._patience.tick_s or min(self._keepalive_s, self._patience.slow_reader_s) / 2
        self._timer = asyncio.get_running_loop().call_later(pause, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._sending_since is not None and now - self._sending_since > self._patience.slow_reader_s:
            self._record.cause = "slow_reader"
            transport = self._scope.get("transport")
            if transport is not None:
                transport.abort()
            self.listener.leave()
            return
        if self._sending_since is None and now - self._last_sent >= (self._patience.tick_s or self._keepalive_s):
            if self._answer.streaming:
                self._answer.keepalive()
            else:
                self.listener.wake()
        self._arm()
