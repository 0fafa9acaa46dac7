"""Reads what one upstream answers into a SharedAnswer.

| what the upstream does                        | what happens                                         |
| --------------------------------------------- | ---------------------------------------------------- |
| closes after finish_reason without [DONE]     | the message is complete                              |
| closes before finish_reason                   | an error event; Refused while no block has been sent |
| sends an error, or what is no chunk           | likewise                                             |
| answers in one piece                          | the same machine, one chunk                          |
| sends a great deal at once                    | it is read in steps: others have their turn between  |
| sends more than an answer may have            | malformed                                            |
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec

from llmstack.protocol import chat, sse
from llmstack.protocol.anthropic import Event
from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused, from_upstream
from llmstack.protocol.limits import most
from llmstack.protocol.stream import MessageStream
from llmstack.protocol.stream_states import StreamState
from llmstack.proxy.shared_answer import SharedAnswer
from llmstack.proxy.upstreams import bounded

PROGRESS_S = 5.0
AFTER_FINISH_S = 5.0  # for usage and [DONE], once finish_reason has come
_AHEAD = 65536  # bytes of a stream after which slow listeners are looked at
_STEP = 16 * 1024  # bytes that are read in one go; more of them would hold up the other streams
_DONE, _FINISHING = StreamState.DONE, StreamState.FINISHING


class AnswerReader:
    def __init__(
        self,
        answer: SharedAnswer,
        stream: MessageStream,
        upstream: str,
        limit: int,
        on_progress: Callable[[chat.PrefillProgress], None],
        hidden: Callable[[Any], Any] = lambda error: error,
    ) -> None:
        """limit: tokens of the context, to name in an overflow; on_progress is called every five seconds at most;
        hidden(error): without what must not be shown."""
        self._answer = answer
        self._stream = stream
        self._upstream = upstream
        self._limit = limit
        self._on_progress = on_progress
        self._hidden = hidden
        self._last_progress = time.monotonic()

    async def read(self, response: aiohttp.ClientResponse) -> None:
        """Raises Refused as long as nothing was sent that can't be taken back, and what a connection raises."""
        if response.content_type == "text/event-stream":
            await self._read_stream(response.content)
        else:
            await self._read_whole(await bounded(response, most("answer")))

    def broken(self, failure: Failure) -> None:
        """The connection failed: complete after finish_reason, an error event behind a block, else Refused."""
        stream = self._stream
        if stream.state is _FINISHING:
            self._answer.emit(stream.end())
        elif stream.state is _DONE:
            return
        elif stream.emitted:
            self._answer.emit(stream.fail(failure))
        else:
            raise Refused(failure)

    async def _read_stream(self, content: aiohttp.StreamReader) -> None:
        answer, stream = self._answer, self._stream
        decoder = sse.SSEDecoder()
        left = sys.maxsize if answer.streaming else most("answer")  # a stream is never gathered
        while True:
            if stream.state is _FINISHING:
                with suppress(TimeoutError):
                    async with asyncio.timeout(AFTER_FINISH_S):
                        data = await content.readany()
                        left -= len(data)
                        if data and left >= 0 and await self._feed(decoder.receive_data(data)):
                            return
                        if data and left >= 0:
                            continue
                answer.emit(stream.end())
                return
            data = await content.readany()
            left -= len(data)
            try:
                if left < 0:
                    raise sse.TooLong(f"an answer of more than {most('answer')} bytes")
                payloads = decoder.receive_data(data) if data else decoder.end()
            except sse.TooLong as error:
                self.broken(self._malformed(str(error)))
                return
            if await self._feed(payloads):
                return
            if not data:
                self._ended()
                return
            if answer.size > _AHEAD:
                await answer.room()

    async def _feed(self, payloads: list[bytes]) -> bool:
        """True when the answer is complete or has failed. What comes at once is read in steps."""
        if len(payloads) <= 16 and sum(map(len, payloads)) <= _STEP:  # nearly always
            return self._take(payloads)
        step: list[bytes] = []
        size = 0
        for payload in payloads:
            step.append(payload)
            size += len(payload) + 512  # an event costs something, however small it is
            if size > _STEP:
                if self._take(step) if len(payload) <= _STEP else await self._take_slowly(step):
                    return True
                step, size = [], 0
                await asyncio.sleep(0)
        return self._take(step)

    async def _take_slowly(self, payloads: list[bytes]) -> bool:
        """The last one is large."""
        if len(payloads) > 1 and self._take(payloads[:-1]):
            return True
        chunk = self._decoded(payloads[-1])
        if chunk is None:
            return True
        for part in chat.slices(chunk, _STEP):
            if self._receive(part):
                return True
            await asyncio.sleep(0)
        return False

    def _take(self, payloads: list[bytes]) -> bool:
        """True when the answer is complete or has failed."""
        events: list[Event] = []
        for payload in payloads:
            if payload == b"[DONE]":
                self._answer.emit(events)
                self._ended()
                return True
            chunk = self._decoded(payload, events)
            if chunk is None or self._failed(chunk, events):
                return True
        self._answer.emit(events)
        return self._stream.state is _DONE

    def _receive(self, chunk: chat.ChatChunk) -> bool:
        events: list[Event] = []
        if self._failed(chunk, events):
            return True
        self._answer.emit(events)
        return self._stream.state is _DONE

    def _decoded(self, payload: bytes, events: Sequence[Event] = ()) -> chat.ChatChunk | None:
        """None for what is no chunk: the answer has failed then, behind these events."""
        try:
            return chat.decode(payload)
        except msgspec.DecodeError:
            self._answer.emit(list(events))
            self.broken(self._malformed("an event that is no chat chunk"))
            return None

    def _failed(self, chunk: chat.ChatChunk, events: list[Event]) -> bool:
        """Adds the events of a chunk. Raises Refused for an error while nothing was sent."""
        if chunk.error is not None:
            chunk.error = self._hidden(chunk.error)
        if chunk.error is not None and not self._stream.emitted:
            raise Refused(from_upstream(0, chunk.error, name=self._upstream, limit=self._limit))
        try:
            events += self._stream.receive(chunk)
        except RecursionError:  # the model's doing: no client is told that its request nests too deeply
            self._answer.emit(events)
            self.broken(self._malformed("an answer that nests too deeply"))
            return True
        if chunk.prompt_progress is not None:
            self._progress(chunk.prompt_progress)
        return False

    def _ended(self) -> None:
        stream = self._stream
        if stream.state is _FINISHING or stream.emitted:
            self._answer.emit(stream.end())
        elif stream.state is not _DONE:
            message = f"{self._upstream} ended its answer before it was complete"
            raise Refused(Failure(FailureKind.API, message, Cause.CUT, status=502))

    async def _read_whole(self, data: bytes) -> None:
        try:
            chunk = chat.decode(data)
        except msgspec.DecodeError:
            raise Refused(self._malformed("an answer that is no completion")) from None
        if chunk.error is not None:
            chunk.error = self._hidden(chunk.error)
            raise Refused(from_upstream(0, chunk.error, name=self._upstream, limit=self._limit))
        for part in chat.slices(chunk, _STEP) if len(data) > _STEP else (chunk,):
            if self._receive(part):
                return
            await asyncio.sleep(0)
        self._ended()

    def _malformed(self, what: str) -> Failure:
        return Failure(FailureKind.API, f"{self._upstream} sent {what}", Cause.MALFORMED)

    def _progress(self, progress: chat.PrefillProgress) -> None:
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_S:
            self._last_progress = now
            self._on_progress(progress)
