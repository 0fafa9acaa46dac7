"""POST /v1/messages and /v1/messages/count_tokens: from the body to the answer."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.catalog.routes import Choice, Target
from llmstack.protocol import count, request, sse
from llmstack.protocol.anthropic import Event, MessagesRequest
from llmstack.protocol.content import Images
from llmstack.protocol.errors import Cause, Failure, Kind, Refused, invalid
from llmstack.protocol.local import only_server_tools, unavailable_tool
from llmstack.protocol.message import Assembler
from llmstack.protocol.request import Dialect
from llmstack.proxy.attempt import Asking
from llmstack.proxy.documents import read_ahead
from llmstack.proxy.gate import Policy, Receive, Scope, Send, header, read_body, refuse
from llmstack.proxy.relay import Relay
from llmstack.proxy.report import Capture, Exchange, place
from llmstack.proxy.run import Listener, Run, Runs

_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
SLOW_READER_S = 60.0  # a client that takes nothing for so long is cut (fault 42)
WHOLE_KEEPALIVE_S = 120.0  # silence after which an answer that is not streamed begins with blanks


@dataclass(slots=True)
class Messages:
    asking: Asking
    runs: Runs
    policy: Policy
    relay: Relay
    capture: Capture | None = None
    slow_reader_s: float = SLOW_READER_S
    whole_keepalive_s: float = WHOLE_KEEPALIVE_S
    tick_s: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["exchange"]
        body = await read_body(scope, receive, self.policy)
        asked = request.decode(body)
        _describe(exchange, scope, asked)
        choice = self._choose(asked.model)
        exchange.route = choice.match
        if choice.targets[0].kind == "anthropic":
            await self.relay.messages(scope, receive, send, choice.targets[0], body, asked.model)
            return
        tool = only_server_tools(asked)
        if tool is not None and choice.targets[0].server_tools == "explain":
            await self._local(scope, send, asked, tool)
            return
        await read_ahead(asked)
        streaming = bool(asked.stream)
        key = self._key(scope, body)
        join = choice.targets[0].join
        run = self.runs.find(key) if join else None
        if run is not None:
            exchange.joined = True
        else:

            async def work(run: Run) -> None:
                await self._answer(run, asked, choice, exchange.id)

            run = self.runs.begin(key, streaming=streaming, join=join, work=work)
            run.conversation = exchange.conversation
        listener = run.listen()
        watcher = asyncio.get_running_loop().create_task(_watch(receive, listener))
        client = _Client(self, scope, send, exchange, run, listener, choice)
        try:
            await (client.stream() if streaming else client.whole())
        finally:
            watcher.cancel()
            run.leave(listener)
            _record(exchange, run)
            exchange.disconnected = listener.gone and not client.complete
            if self.capture is not None:
                self.capture.write(exchange, scope["headers"], body, client.sent, run.sent_body)
        if run.handover is not None and not listener.gone:
            exchange.fallback = run.fallback
            await self.relay.messages(scope, receive, send, run.handover, body, asked.model)

    async def _answer(self, run: Run, asked: MessagesRequest, choice: Choice, request_id: str) -> None:
        """Whatever goes wrong becomes a failure the client can read, and one line in the log."""
        try:
            await self.asking.answer(run, asked, choice, request_id)
        except Refused:
            raise
        except RecursionError:
            raise Refused(invalid("the request is nested too deeply")) from None
        except Exception as error:
            self.asking.say("fault", {"id": request_id, "error": type(error).__name__, "at": place(error)})
            failure = Failure(Kind.API, f"the proxy failed ({type(error).__name__})", Cause.MALFORMED)
            raise Refused(failure) from None

    def _choose(self, model: str) -> Choice:
        choice = self.asking.live.choose(model)
        if choice is None:
            raise Refused(
                Failure(Kind.INVALID, f"no route for the model {model!r}; models.toml decides which names are served")
            )
        return choice

    def _key(self, scope: Scope, body: bytes) -> Hashable:
        """What makes two requests the same: the bytes, the session and the agent that sent them."""
        return (body, header(scope, b"x-claude-code-session-id"), header(scope, b"x-claude-code-agent-id"))

    async def _local(self, scope: Scope, send: Send, asked: MessagesRequest, tool: str) -> None:
        exchange: Exchange = scope["exchange"]
        exchange.status, exchange.upstream = 200, "proxy"
        events: list[Event] = unavailable_tool(
            asked, tool, "msg_" + secrets.token_hex(12), "srvtoolu_" + secrets.token_hex(12)
        )
        headers = [(b"request-id", exchange.id.encode()), (b"x-llmstack-upstream", b"proxy")]
        if asked.stream:
            data = sse.encode_all(events)
            headers += _STREAM_HEADERS
        else:
            whole = Assembler()
            whole.receive(events)
            data = whole.body()
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    async def count_tokens(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Exact on a llama-server upstream; asked of an Anthropic one; an estimate by size elsewhere."""
        exchange: Exchange = scope["exchange"]
        body = await read_body(scope, receive, self.policy)
        asked = request.decode(body)
        _describe(exchange, scope, asked)
        choice = self._choose(asked.model)
        target = choice.targets[0]
        exchange.route, exchange.upstream = choice.match, target.name
        if target.kind == "anthropic":
            await self.relay.messages(scope, receive, send, target, body, asked.model)
            return
        await read_ahead(asked)
        tokens = await self._count(target, asked)
        data = msgspec.json.encode({"input_tokens": tokens})
        exchange.status, exchange.tokens_in = 200, tokens
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(data)).encode()),
            (b"request-id", exchange.id.encode()),
            (b"x-llmstack-upstream", target.name.encode("latin-1", "replace")),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    def prefix_body(self, body: bytes) -> dict[str, Any]:
        """A Messages request as the local server would be asked. Raises Refused."""
        asked = request.decode(body)
        target = self._choose(asked.model).targets[0]
        dialect = Dialect(
            thinking=target.thinking,
            server_tools=target.server_tools,
            stable_prefix=target.stable_prefix,
            images="placeholder",
        )
        return self.asking.translator.to_chat(asked, dialect).body

    async def _count(self, target: Target, asked: MessagesRequest) -> int:
        local = target.kind == "llama-server"
        images: Images = "pass" if self.asking.live.sees(target) else "placeholder"
        dialect = Dialect(llama_server=local, images=images, stable_prefix=target.stable_prefix)
        await self.asking.tool_calls.ready()
        chat = self.asking.translator.to_chat(asked, dialect)
        if local:
            self.asking.upstreams.address(target)  # a stack that is down says so, instead of guessing
            exact = await self.asking.preflight.exact(target, chat)
            if exact is not None:
                return exact
        return count.estimate(len(msgspec.json.encode(chat.body)))


class _Client:
    """The sending side of one request."""

    def __init__(
        self,
        owner: Messages,
        scope: Scope,
        send: Send,
        exchange: Exchange,
        run: Run,
        listener: Listener,
        choice: Choice,
    ) -> None:
        self._owner = owner
        self._scope = scope
        self._send = send
        self._exchange = exchange
        self._run = run
        self._listener = listener
        self._keepalive_s = choice.targets[0].keepalive_s
        self._started = False
        self._sending_since: float | None = None
        self._last_sent = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self.complete = False
        self.sent: list[bytes] = []

    async def stream(self) -> None:
        run, listener = self._run, self._listener
        self._task = asyncio.current_task()
        self._arm()
        try:
            while not listener.gone:
                data = run.take(listener)
                if data:
                    if not self._started:
                        await self._start(_STREAM_HEADERS)
                    await self._write(data, more=True)
                elif run.done:
                    break
                else:
                    await listener.wait()
            if listener.gone or run.handover is not None:
                return
            if not self._started:
                await refuse(self._scope, self._send, run.refused or _lost())
            else:
                await self._write(b"", more=False)
            self.complete = True
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def whole(self) -> None:
        """One JSON answer. After two minutes of silence it begins with blanks, which JSON allows before a value:
        the client's own limit is five minutes without a byte."""
        run, listener = self._run, self._listener
        self._task = asyncio.current_task()
        self._arm()
        try:
            while not listener.gone and not run.done:
                await listener.wait()
                silent_s = time.monotonic() - self._last_sent
                if (
                    run.done
                    or listener.gone
                    or silent_s < (self._keepalive_s if self._started else self._owner.whole_keepalive_s)
                ):
                    continue
                if not self._started:
                    await self._start([(b"content-type", b"application/json")])
                await self._write(b" ", more=True)
            if listener.gone or run.handover is not None:
                return
            failure = run.refused or (run.stream.failure if run.stream is not None else None)
            if failure is None and run.assembler.error is not None:
                failure = _lost()
            if self._started:
                data = failure.to_anthropic(self._exchange.id) if failure is not None else run.assembler.body()
                await self._write(data, more=False)
            elif failure is not None:
                self._exchange.upstream = run.upstream
                await refuse(self._scope, self._send, failure)
            else:
                data = run.assembler.body()
                await self._start(
                    [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
                )
                await self._write(data, more=False)
            self.complete = True
        finally:
            if self._timer is not None:
                self._timer.cancel()

    # ---- sending ----------------------------------------------------------------------------------------

    async def _start(self, headers: list[tuple[bytes, bytes]]) -> None:
        run, exchange = self._run, self._exchange
        self._started = True
        exchange.status = 200
        sent = [
            *headers,
            (b"request-id", exchange.id.encode()),
            (b"x-llmstack-upstream", run.upstream.encode("latin-1", "replace")),
        ]
        if run.fallback:
            sent.append((b"x-llmstack-fallback", run.fallback.encode("latin-1", "replace")))
        await self._send({"type": "http.response.start", "status": 200, "headers": sent})

    async def _write(self, data: bytes, *, more: bool) -> None:
        self._sending_since = time.monotonic()
        if self._owner.capture is not None:
            self.sent.append(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._last_sent = time.monotonic()
        self._sending_since = None

    # ---- the timer: keepalive, and the end of patience with a reader that reads nothing ------------------------

    def _arm(self) -> None:
        pause = self._owner.tick_s or min(self._keepalive_s, self._owner.slow_reader_s) / 2
        self._timer = asyncio.get_running_loop().call_later(pause, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._sending_since is not None and now - self._sending_since > self._owner.slow_reader_s:
            self._exchange.cause = "slow_reader"
            transport = self._scope.get("transport")
            if transport is not None:
                transport.abort()
            self._listener.leave()
            return
        if self._sending_since is None and now - self._last_sent >= (self._owner.tick_s or self._keepalive_s):
            if self._run.streaming:
                self._run.keepalive()
            else:
                self._listener.wake()
        self._arm()


async def _watch(receive: Receive, listener: Listener) -> None:
    """The client's disconnect, noticed whatever the upstream is doing (llama.cpp#24496)."""
    with suppress(asyncio.CancelledError):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                listener.leave()
                return


def _describe(exchange: Exchange, scope: Scope, asked: MessagesRequest) -> None:
    exchange.model = asked.model
    exchange.stream = bool(asked.stream)
    exchange.session = (header(scope, b"x-claude-code-session-id") or b"").decode("latin-1")[:64]
    exchange.agent = (header(scope, b"x-claude-code-agent-id") or b"").decode("latin-1")[:64]


def _record(exchange: Exchange, run: Run) -> None:
    exchange.upstream = run.upstream
    exchange.fallback = run.fallback
    exchange.retries = run.retries
    exchange.queue_ms = run.queue_ms
    exchange.first_token = run.first_token
    stream = run.stream
    failure = run.refused
    exchange.audit = run.audit
    if stream is not None:
        exchange.tokens_in = stream.usage.input_tokens + stream.usage.cache_read_input_tokens
        exchange.tokens_cached = stream.usage.cache_read_input_tokens
        exchange.tokens_out = stream.usage.output_tokens
        exchange.tools = stream.tool_calls
        exchange.leaked = stream.leaked
        exchange.repaired = stream.repaired
        exchange.stop_reason = stream.stop_reason or ""
        failure = failure or stream.failure
    if failure is not None and not exchange.cause:
        exchange.cause = failure.cause.value


def _lost() -> Failure:
    return Failure(Kind.API, "the answer was lost", Cause.CUT)
