"""Reads what one upstream answers into a SharedAnswer.

| what the upstream does                        | what happens                                         |
| --------------------------------------------- | ---------------------------------------------------- |
| closes after finish_reason without [DONE]     | the message is complete                              |
| closes before finish_reason                   | an error event; Refused while no block has been sent |
| sends an error, or what is no chunk           | likewise                                             |
| answers in one piece                          | the same machine, one chunk                          |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import aiohttp
import msgspec

from llmstack.protocol import chat, sse
from llmstack.protocol.anthropic import Event
from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused, from_upstream
from llmstack.protocol.stream import MessageStream, StreamState
from llmstack.proxy.shared_answer import SharedAnswer

PROGRESS_S = 5.0
AFTER_FINISH_S = 5.0  # for usage and [DONE], once finish_reason has come
_AHEAD = 65536  # bytes of a stream after which slow listeners are looked at
_DONE, _FINISHING = StreamState.DONE, StreamState.FINISHING


class AnswerReader:
    def __init__(
        self,
        answer: SharedAnswer,
        stream: MessageStream,
        upstream: str,
        limit: int,
        on_progress: Callable[[chat.PrefillProgress], None],
    ) -> None:
        """limit: tokens of the context, to name in an overflow; on_progress is called every five seconds at most."""
        self._answer = answer
        self._stream = stream
        self._upstream = upstream
        self._limit = limit
        self._on_progress = on_progress
        self._last_progress = time.monotonic()

    async def read(self, response: aiohttp.ClientResponse) -> None:
        """Raises Refused as long as nothing was sent that can't be taken back, and what a connection raises."""
        if response.content_type == "text/event-stream":
            await self._read_stream(response.content)
        else:
            self._read_whole(await response.read())

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
        while True:
            if stream.state is _FINISHING:
                with suppress(TimeoutError):
                    async with asyncio.timeout(AFTER_FINISH_S):
                        data = await content.readany()
                        if data and self._feed(decoder.receive_data(data)):
                            return
                        if data:
                            continue
                answer.emit(stream.end())
                return
            data = await content.readany()
            try:
                payloads = decoder.receive_data(data) if data else decoder.end()
            except sse.TooLong as error:
                self.broken(self._malformed(str(error)))
                return
            if self._feed(payloads):
                return
            if not data:
                self._ended()
                return
            if answer.size > _AHEAD:
                await answer.room()

    def _feed(self, payloads: list[bytes]) -> bool:
        """True when the answer is complete or has failed."""
        answer, stream = self._answer, self._stream
        events: list[Event] = []
        for payload in payloads:
            if payload == b"[DONE]":
                answer.emit(events)
                self._ended()
                return True
            try:
                chunk = chat.decode(payload)
            except (msgspec.DecodeError, RecursionError):
                answer.emit(events)
                self.broken(self._malformed("an event that is no chat chunk"))
                return True
            if chunk.error is not None and not stream.emitted:
                raise Refused(from_upstream(0, chunk.error, name=self._upstream, limit=self._limit))
            events += stream.receive(chunk)
            if chunk.prompt_progress is not None:
                self._progress(chunk.prompt_progress)
        answer.emit(events)
        return stream.state is _DONE

    def _ended(self) -> None:
        stream = self._stream
        if stream.state is _FINISHING or stream.emitted:
            self._answer.emit(stream.end())
        elif stream.state is not _DONE:
            message = f"{self._upstream} ended its answer before it was complete"
            raise Refused(Failure(FailureKind.API, message, Cause.CUT, status=502))

    def _read_whole(self, data: bytes) -> None:
        try:
            chunk = chat.decode(data)
        except (msgspec.DecodeError, RecursionError):
            raise Refused(self._malformed("an answer that is no completion")) from None
        if chunk.error is not None:
            raise Refused(from_upstream(0, chunk.error, name=self._upstream, limit=self._limit))
        self._answer.emit(self._stream.receive(chunk))
        self._ended()

    def _malformed(self, what: str) -> Failure:
        return Failure(FailureKind.API, f"{self._upstream} sent {what}", Cause.MALFORMED)

    def _progress(self, progress: chat.PrefillProgress) -> None:
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_S:
            self._last_progress = now
            self._on_progress(progress)
