"""Bytes passed through: any request to an Anthropic upstream, and chat completions that no neutral request can say.

A stream is passed on event by event (protocol/passed_stream.py), or written anew in the client's own words
(protocol/clients/relayed.py); the request changes only where the route says so (model, extra_body), and to a
llama-server goes without the fields that a client does not reach (llama_server/request_fields.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from llmstack.catalog.routes import RouteChoice, Target
from llmstack.protocol.clients.asked import Asked
from llmstack.protocol.clients.relayed import RelayedBody, RelayedStream
from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused, unsupported
from llmstack.protocol.metering import Meter
from llmstack.protocol.passed_stream import PassedStream
from llmstack.protocol.sse import TooLong
from llmstack.proxy import death_table
from llmstack.proxy.callers import Callers, caller_of
from llmstack.proxy.fallback import Answered, Fallback, Outcome, Turn, Unanswered
from llmstack.proxy.gate import ClientGone
from llmstack.proxy.held_back import HeldBack
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.report import RequestRecord
from llmstack.proxy.respond import Header, Receive, Scope, Send, start
from llmstack.proxy.turns import FairTurns
from llmstack.proxy.upstreams import Upstreams

# Hop-by-hop (RFC 9110, section 7.6.1), or ours, or made anew by the next hop.
_NOT_FORWARDED = frozenset(
    {
        b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"upgrade", b"te", b"trailer",
        b"proxy-authorization", b"proxy-connection", b"authorization", b"x-api-key", b"cookie", b"expect",
    }
)  # fmt: skip
_NOT_RETURNED = frozenset(
    {"transfer-encoding", "connection", "keep-alive", "content-length", "server", "date", "set-cookie"}
)
# What uses tokens; counting them does not.
_ANSWERING = ("/v1/messages", "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/infill")
SLOW_READER_S = 60.0  # a client that takes nothing for so long is cut, as in client_writer.py


@dataclass(frozen=True, slots=True)
class Passing:
    """One request on its way through. anthropic: the client speaks Messages, and gets the upstream's own errors.

    translator: writes an Anthropic upstream's answer in the words of a client that speaks another API.
    """

    target: Target
    path: str
    body: bytes
    anthropic: bool
    translator: RelayedStream | RelayedBody | None = None


@dataclass(slots=True)
class Relay:
    live: LiveConfig
    upstreams: Upstreams
    held_back: HeldBack
    log_event: Callable[[str, dict[str, Any]], None]
    callers: Callers
    turns: FairTurns = field(default_factory=FairTurns)
    slow_reader_s: float = SLOW_READER_S

    async def to_anthropic(
        self, scope: Scope, receive: Receive, send: Send, target: Target, body: bytes, incoming: Asked
    ) -> None:
        """A request to an upstream that speaks Messages; byte for byte, where client and route allow it.

        Raises Refused while nothing has been sent.
        """
        async with _while_there(scope, receive):
            await self._exchange(scope, send, self._as_messages(scope, target, body, incoming))

    async def as_it_is(
        self, scope: Scope, receive: Receive, send: Send, route: RouteChoice, body: bytes, incoming: Asked
    ) -> None:
        """A chat completion that asks for what only its own words can say, along the fallback chain. Raises Refused."""
        request = msgspec.json.decode(body)

        def passing(target: Target) -> Passing:
            if target.kind == "anthropic":
                return self._as_messages(scope, target, body, incoming)
            return self._passing(target, request, body)

        await self.along(scope, receive, send, route, request, passing)

    async def along(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: RouteChoice,
        request: dict[str, Any],
        passing_to: Callable[[Target], Passing],
    ) -> None:
        """A request that is passed on, along the fallback chain. passing_to(target): as it takes it; it may raise
        Refused. Raises Refused while nothing has been sent."""
        record: RequestRecord = scope["record"]
        caller = caller_of(scope)

        async def attempt(turn: Turn) -> Outcome:
            record.fallback = turn.fallback
            try:
                passing = passing_to(turn.target)
                async with (
                    self.turns.turn(turn.target, caller),
                    self.upstreams.deaths.asking(turn.target, lambda: death_table.request(request)),
                ):
                    await self._exchange(scope, send, passing)
            except Refused as refused:
                return Unanswered(refused.failure)
            return Answered()

        outcome: Outcome = Answered()
        async with _while_there(scope, receive):
            outcome = await Fallback(route, record.id, self.log_event).first_answer(attempt)
        if isinstance(outcome, Unanswered):
            raise Refused(outcome.failure)

    def _as_messages(self, scope: Scope, target: Target, body: bytes, incoming: Asked) -> Passing:
        """Raises Refused for what no Messages request can say."""
        changes: dict[str, Any] = dict(target.extra_body)
        if target.model is not None and target.model != scope["record"].model:
            changes["model"] = target.model
        if incoming.body is not None:
            if incoming.as_it_is:
                raise Refused(unsupported(f"an Anthropic upstream cannot be asked for {incoming.as_it_is}"))
            self.held_back.note(target, (*incoming.extra, *incoming.request.ignored))
            side = incoming.side()
            translator = RelayedStream(side) if incoming.request.stream else RelayedBody(side)
            data = msgspec.json.encode({**incoming.body(), **changes})
            return Passing(target, "/v1/messages", data, anthropic=False, translator=translator)
        if changes:
            body = msgspec.json.encode({**msgspec.json.decode(body), **changes})
        query = scope["query_string"]
        path = scope["path"] + (f"?{query.decode('latin-1')}" if query else "")
        return Passing(target, path, body, anthropic=True)

    def _passing(self, target: Target, request: dict[str, Any], body: bytes) -> Passing:
        """A chat completion as this target takes it. Raises Refused for what it can't be given."""
        changes: dict[str, Any] = {**target.extra_body}
        if target.model is not None:
            changes["model"] = target.model
        passed = self.held_back.passed(target, request) if target.kind == "llama-server" else request
        data = msgspec.json.encode({**passed, **changes}) if changes or passed is not request else body
        return Passing(target, "/v1/chat/completions", data, anthropic=False)

    def _watched(self, scope: Scope, send: Send) -> Send:
        """The same, for a client that reads: one that takes nothing is cut, and the upstream let go (fault 42)."""

        async def sent(message: MutableMapping[str, Any]) -> None:
            try:
                async with asyncio.timeout(self.slow_reader_s):
                    await send(message)
                    return
            except TimeoutError:
                pass
            scope["record"].cause = "slow_reader"
            _cut(scope)
            raise ClientGone

        return sent

    async def _exchange(self, scope: Scope, send: Send, passing: Passing) -> None:
        """Raises Refused while nothing has been sent."""
        target, translator = passing.target, passing.translator
        send = self._watched(scope, send)
        scope["record"].upstream = target.name
        headers = self._headers(scope, passing)
        response = await self.upstreams.post(target, passing.path, passing.body, headers)
        try:
            if 300 <= response.status < 400 or (response.status != 200 and not passing.anthropic):
                raise Refused(await self.upstreams.failure(target, response))
            self.upstreams.note_health(target, healthy=response.status < 500)
            if isinstance(translator, RelayedBody):
                await self._whole(scope, send, response, passing, translator)
                return
            await start(scope, send, response.status, self._returned(response, translator))
            if response.status != 200:
                body = self.upstreams.hide(await self.upstreams.error_body(response))
                await send({"type": "http.response.body", "body": body})
                return
            meter = Meter()
            plain = _is_plain_stream(response, translator)
            passed = PassedStream(anthropic=passing.anthropic, meter=meter) if plain else None
            failure: Failure | None = Failure(FailureKind.API, "the client is gone", Cause.CUT)
            try:
                failure = await self._body(send, response, passing, passed, meter)
            finally:
                self._charge(scope, passing, meter, complete=failure is None and (passed is None or passed.complete))
            if failure is not None:
                scope["record"].cause = failure.cause.value
            if translator is not None:
                rest = translator.end() if failure is None else translator.lost(failure)
            elif passed is not None and not passed.complete:
                name = passing.target.name
                early = Failure(FailureKind.API, f"{name} ended its answer before it was complete", Cause.CUT)
                rest = _last_word(response, failure or early, passing.anthropic)
                scope["record"].cause = (failure or early).cause.value
            elif failure is not None and passed is None:  # half of a body: a clean end would call it whole
                _cut(scope)
                raise ClientGone
            else:
                rest = b""
            await send({"type": "http.response.body", "body": rest})
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def _whole(
        self, scope: Scope, send: Send, response: aiohttp.ClientResponse, passing: Passing, translator: RelayedBody
    ) -> None:
        """One message as one completion: its head is sent when it is there. Raises Refused."""
        meter = Meter()
        failure: Failure | None = Failure(FailureKind.API, "the client is gone", Cause.CUT)
        whole = b""
        try:
            failure = await self._body(send, response, passing, None, meter)
            whole = translator.end() if failure is None else b""
        finally:
            self._charge(scope, passing, meter, complete=failure is None)
        if failure is not None:
            raise Refused(failure)
        await start(scope, send, 200, self._returned(response, translator))
        await send({"type": "http.response.body", "body": whole})

    def _charge(self, scope: Scope, passing: Passing, meter: Meter, *, complete: bool) -> None:
        """What was used is counted, also where the client left before the end."""
        if not passing.path.partition("?")[0].endswith(_ANSWERING):
            return
        translator, record = passing.translator, scope["record"]
        meter.look({"usage": msgspec.to_builtins(translator.usage)}) if translator is not None else meter.whole()
        record.tokens_in, record.tokens_cached, record.tokens_out = meter.reported
        self.callers.charge(caller_of(scope), meter.used(len(passing.body), complete=complete))

    async def _body(
        self, send: Send, response: aiohttp.ClientResponse, passing: Passing, passed: PassedStream | None, meter: Meter
    ) -> Failure | None:
        """Passes the answer on; why it broke off, unless it has had its end already."""
        translator = passing.translator
        try:
            while True:
                data = await response.content.readany()
                if not data:
                    return None
                if translator is not None:
                    meter.event()
                    data = translator.receive(data)
                elif passed is not None:
                    data = passed.receive(data)
                else:
                    meter.piece(data)
                if b"error" in data and (translator is not None or passed is not None):
                    data = self.upstreams.hide(data)
                if data or isinstance(translator, RelayedStream):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                if passed is not None and passed.ended:
                    return None
        except TooLong as error:
            return Failure(FailureKind.API, f"{passing.target.name} sent {error}", Cause.MALFORMED)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            failure = self.upstreams.failure_of(passing.target, error)
            return Failure(FailureKind.API, failure.message, Cause.CUT)

    def _returned(
        self, response: aiohttp.ClientResponse, translator: RelayedStream | RelayedBody | None
    ) -> list[Header]:
        """The upstream's headers, as far as they are the client's business."""
        headers = [
            (name.lower().encode("latin-1"), self.upstreams.hide(value.encode("latin-1", "replace")))
            for name, value in response.headers.items()
            if name.lower() not in _NOT_RETURNED and not (translator is not None and name.lower() == "content-type")
        ]
        if translator is not None:
            headers.append((b"content-type", translator.content_type.encode()))
        return headers

    def _headers(self, scope: Scope, passing: Passing) -> dict[str, str]:
        """Raises Refused."""
        forwarded: dict[str, str] = {}
        if passing.anthropic:
            for name, value in scope["headers"]:
                if name not in _NOT_FORWARDED:
                    forwarded[name.decode("latin-1")] = value.decode("latin-1")
            if scope["record"].stream or not caller_of(scope).is_owner:
                forwarded["accept-encoding"] = "identity"  # it is looked at: for its end, and for what it used
        elif passing.target.kind == "anthropic":
            forwarded["anthropic-version"] = "2023-06-01"
        return {**forwarded, **self.upstreams.headers(passing.target)}


def _is_plain_stream(response: aiohttp.ClientResponse, translator: RelayedStream | RelayedBody | None) -> bool:
    packed = response.headers.get("content-encoding", "identity") != "identity"
    return translator is None and response.content_type == "text/event-stream" and not packed


def _cut(scope: Scope) -> None:
    """The client's connection, so that it sees that something is missing."""
    transport = scope.get("transport")
    if transport is not None:
        transport.abort()


def _last_word(response: aiohttp.ClientResponse, failure: Failure, anthropic: bool) -> bytes:
    """A stream that was cut ends in an error the client can read."""
    if response.content_type != "text/event-stream" or response.headers.get("content-encoding"):
        return b""
    if anthropic:
        return b"\n\nevent: error\ndata: " + failure.to_anthropic() + b"\n\n"
    return b"\n\ndata: " + failure.to_openai() + b"\n\n"


@asynccontextmanager
async def _while_there(scope: Scope, receive: Receive) -> AsyncIterator[None]:
    """What is done for a client ends when that leaves."""
    record: RequestRecord = scope["record"]
    current = asyncio.current_task()
    assert current is not None
    watcher = asyncio.get_running_loop().create_task(_cancel_when_gone(receive, current))
    try:
        yield
    except asyncio.CancelledError:
        if not watcher.done():
            raise
        record.disconnected = True
        current.uncancel()
        if not record.status:
            record.status = 499
    finally:
        watcher.cancel()


async def _cancel_when_gone(receive: Receive, task: asyncio.Task[Any]) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            task.cancel()
            return
