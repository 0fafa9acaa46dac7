"""A request from its body to its answer, whatever API it came by: Messages, chat completions, Responses, Gemini's.

Each enters as one neutral request and leaves in its client's words (protocol/clients); between them all is the same.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from llmstack.catalog.routes import RouteChoice, Target
from llmstack.protocol.clients import chat_request, gemini_request, messages, responses_request
from llmstack.protocol.clients.asked import Asked, Stamp
from llmstack.protocol.clients.responses_store import ResponsesStore
from llmstack.protocol.content import Images
from llmstack.protocol.dialect import Dialect
from llmstack.protocol.errors import Failure, FailureKind, Refused
from llmstack.protocol.message import Assembler
from llmstack.protocol.metering import tokens_of
from llmstack.protocol.request import decode
from llmstack.protocol.server_tools import only_server_tools, unavailable_tool
from llmstack.protocol.web.calls import WebCall
from llmstack.proxy.answer_service import AnswerService
from llmstack.proxy.attempt import ProxyContext, Question, first_settings, work_of
from llmstack.proxy.callers import Callers, caller_of
from llmstack.proxy.client_writer import ClientWriter, Patience
from llmstack.proxy.documents import Documents
from llmstack.proxy.fallback import Answered, Outcome
from llmstack.proxy.gate import Policy, header, read_body
from llmstack.proxy.loop_watch import others_turn
from llmstack.proxy.relay import Relay
from llmstack.proxy.report import Capture, RequestRecord
from llmstack.proxy.respond import EVENT_STREAM, JSON, Receive, Scope, Send, respond, respond_json, start
from llmstack.proxy.shared_answer import InFlight, Listener, SharedAnswer
from llmstack.proxy.web.side_calls import SideCalls

Reading = Callable[[bytes, Stamp], Asked]


@dataclass(slots=True)
class Conversations:
    answers: AnswerService
    in_flight: InFlight
    policy: Policy
    relay: Relay
    documents: Documents
    callers: Callers
    side_calls: SideCalls
    capture: Capture | None = None
    patience: Patience = field(default_factory=Patience)
    stored: ResponsesStore = field(default_factory=ResponsesStore)

    @property
    def context(self) -> ProxyContext:
        return self.answers.context

    async def messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._converse(scope, receive, send, messages.asked)

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._converse(scope, receive, send, chat_request.asked)

    async def responses(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._converse(scope, receive, send, partial(responses_request.asked, store=self._stored(scope)))

    async def gemini(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1beta/models/NAME:METHOD. Raises Refused."""
        name, _, method = scope["path_params"]["call"].rpartition(":")
        if method == "countTokens":
            read = partial(gemini_request.asked, model=name, stream=False)
            await respond_json(scope, send, {"totalTokens": await self._counted(scope, receive, read)})
            return
        if method not in ("generateContent", "streamGenerateContent") or not name:
            raise Refused(Failure(FailureKind.NOT_FOUND, f"there is nothing at {scope['path'][:200]}"))
        stream = method == "streamGenerateContent"
        sse = stream and b"alt=sse" in scope["query_string"].split(b"&")
        read = partial(gemini_request.asked, model=name, stream=sse, array=stream and not sse)
        await self._converse(scope, receive, send, read)

    def _stored(self, scope: Scope) -> ResponsesStore:
        return self.stored.of(caller_of(scope).name)

    async def stored_response(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET and DELETE of a response that was kept. Raises Refused."""
        name = scope["path_params"]["id"]
        stored = self._stored(scope)
        data = stored.get(name)
        if data is None:
            raise Refused(Failure(FailureKind.NOT_FOUND, f"no response {name[:80]!r} is kept here"))
        if scope["method"] == "DELETE":
            stored.remove(name)
            await respond_json(scope, send, {"id": name, "object": "response.deleted", "deleted": True})
        else:
            await respond(scope, send, 200, data, [JSON])

    async def _converse(self, scope: Scope, receive: Receive, send: Send, read: Reading) -> None:
        """Raises Refused while nothing has been sent."""
        record: RequestRecord = scope["record"]
        body = await read_body(scope, receive, self.policy)
        incoming = read(body, Stamp(int(time.time()), _new_id))
        await others_turn(len(body))
        _describe(record, scope, incoming)
        self.callers.require_model(caller_of(scope), incoming.request.model)
        route = self._route(incoming.request.model)
        record.route = route.match
        target = route.targets[0]
        if target.kind == "anthropic":
            await self.relay.to_anthropic(scope, receive, send, target, body, incoming)
            return
        if incoming.as_it_is:
            await self.relay.as_it_is(scope, receive, send, route, body, incoming)
            return
        call = None
        if target.server_tools == "explain":
            call = self.side_calls.served(incoming.request)
            if call is None and (tool := only_server_tools(incoming.request)) is not None:
                await _explain(scope, send, incoming, tool)
                return
        answer = self._answer(scope, body, incoming, route, call)
        writer = ClientWriter(scope, send, answer, target.keepalive_s, self.patience, self.capture is not None)
        watcher = asyncio.get_running_loop().create_task(_watch(receive, writer.listener))
        try:
            await writer.write()
        finally:
            watcher.cancel()
            answer.leave(writer.listener)
            _record(record, answer)
            record.disconnected = writer.listener.gone and not writer.complete
            if self.capture is not None:
                bodies = [attempt.sent_body for attempt in answer.attempts if attempt.sent_body]
                self.capture.write(record, scope["headers"], body, writer.sent, bodies[-1] if bodies else b"")
        if answer.handover is not None and not writer.complete and not writer.listener.gone:
            record.fallback = answer.handover.fallback
            await self.relay.to_anthropic(scope, receive, send, answer.handover.target, body, incoming)

    def _answer(
        self, scope: Scope, body: bytes, incoming: Asked, route: RouteChoice, call: WebCall | None
    ) -> SharedAnswer:
        """The running one of an equal request, or a new one: equal in its bytes and its path, and in the key, the
        session and the agent that sent them."""
        caller, session = caller_of(scope), header(scope, b"x-claude-code-session-id")
        key: Hashable = (scope["path"], body, caller, session, header(scope, b"x-claude-code-agent-id"))
        join = route.targets[0].join
        record: RequestRecord = scope["record"]
        running = self.in_flight.find(key) if join else None
        if running is not None:
            record.joined = True
            return running
        request, streaming, side = incoming.request, bool(incoming.request.stream), incoming.side()
        if call is not None:
            of_the_web = partial(self.side_calls.answer, call, request.model, record)
            return self.in_flight.begin(key, of_the_web, streaming=streaming, join=join, side=side)

        async def work(answer: SharedAnswer) -> Outcome:
            if not self.documents.all_remembered(request):
                answer.open_stream(first_settings(request.model))  # the client gets signs of life meanwhile
            documents = await self.documents.texts_of(request)
            question = Question(
                request, documents, route, record.id, record.conversation, len(body), caller, incoming.extra,
                signs=incoming.body is None,
            )  # fmt: skip
            outcome: Outcome | None = None
            try:
                outcome = await self.answers.answer(answer, question)
                return outcome
            finally:  # also where the last client has left: what was computed for it is counted
                if answer.first_byte is not None and answer.stream is not None:
                    whole = isinstance(outcome, Answered)
                    usage, streamed = answer.stream.usage, answer.size
                    self.callers.charge(caller, tokens_of(usage, sent=len(body), streamed=streamed, complete=whole))

        return self.in_flight.begin(key, work, streaming=streaming, join=join, side=side)

    def _route(self, model: str) -> RouteChoice:
        route = self.context.live.choose(model)
        if route is None:
            message = f"no route for the model {model!r}; models.toml decides which names are served"
            raise Refused(Failure(FailureKind.INVALID, message))
        return route

    async def count_tokens(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Exact on a llama-server upstream; asked of an Anthropic one; an estimate by size elsewhere."""
        tokens = await self._counted(scope, receive, messages.asked, send)
        if tokens is not None:
            await respond_json(scope, send, {"input_tokens": tokens})

    async def count_input(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same for a Responses request. Raises Refused."""
        tokens = await self._counted(scope, receive, partial(responses_request.asked, store=self._stored(scope)))
        await respond_json(scope, send, {"object": "response.input_tokens", "input_tokens": tokens})

    async def _counted(self, scope: Scope, receive: Receive, read: Reading, send: Send | None = None) -> int | None:
        """send: of a client of Anthropic's, whose upstream answers for itself; then None. Raises Refused."""
        record: RequestRecord = scope["record"]
        body = await read_body(scope, receive, self.policy)
        incoming = read(body, Stamp(int(time.time()), _new_id))
        request = incoming.request
        await others_turn(len(body))
        _describe(record, scope, incoming)
        self.callers.require_model(caller_of(scope), request.model)
        route = self._route(request.model)
        target = route.targets[0]
        record.route, record.upstream = route.match, target.name
        if target.kind == "anthropic" and send is not None:
            await self.relay.to_anthropic(scope, receive, send, target, body, incoming)
            return None
        documents = await self.documents.texts_of(request)
        question = Question(request, documents, route, record.id, record.conversation, len(body))
        record.tokens_in = await self._count(target, question)
        return record.tokens_in

    async def _count(self, target: Target, question: Question) -> int:
        context = self.context
        llama_server = target.kind == "llama-server"
        images: Images = "pass" if context.live.sees(target) else "placeholder"
        if images == "pass" and llama_server:
            images = "checked"
        dialect = Dialect(llama_server=llama_server, images=images, stable_prefix=target.stable_prefix)
        await context.tool_calls.ready()
        chat = context.translator.to_chat(question.request, dialect, question.documents)
        await others_turn(question.size)
        if llama_server:
            context.upstreams.address(target)  # a stack that is down says so, instead of guessing
            try:
                work = partial(work_of, context, question, dialect)
                async with context.upstreams.deaths.asking(target, work, proves=False):
                    exact = await context.preflight.exact(target, chat)
            except Refused:
                exact = None  # it is known to end the server, which is not asked then
            if exact is not None:
                return exact
        return context.preflight.rough(chat)

    async def prefix_body(self, body: bytes) -> dict[str, Any]:
        """A Messages request as the local server would be asked. Raises Refused."""
        request = decode(body)
        target = self._route(request.model).targets[0]
        dialect = Dialect(
            thinking=target.thinking,
            server_tools=target.server_tools,
            stable_prefix=target.stable_prefix,
            images="placeholder",
        )
        return self.context.translator.to_chat(request, dialect, await self.documents.texts_of(request)).body


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"


async def _explain(scope: Scope, send: Send, incoming: Asked, tool: str) -> None:
    """The answer to a side call for one of Anthropic's own tools (protocol/server_tools.py)."""
    scope["record"].upstream = "proxy"
    events = unavailable_tool(incoming.request, tool, _new_id("msg"), _new_id("srvtoolu"))
    side = incoming.side()
    if incoming.request.stream:
        await start(scope, send, 200, EVENT_STREAM)
        await send({"type": "http.response.body", "body": side.encode(events)})
    else:
        whole = Assembler()
        whole.receive(events)
        await respond(scope, send, 200, side.whole(whole.message), [JSON])


async def _watch(receive: Receive, listener: Listener) -> None:
    """The client's disconnect, noticed whatever the upstream is doing (llama.cpp#24496)."""
    with suppress(asyncio.CancelledError):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                listener.leave()
                return


def _describe(record: RequestRecord, scope: Scope, incoming: Asked) -> None:
    record.model = incoming.request.model
    record.stream = bool(incoming.request.stream)
    record.session = (header(scope, b"x-claude-code-session-id") or b"").decode("latin-1")[:64] or incoming.conversation
    record.agent = (header(scope, b"x-claude-code-agent-id") or b"").decode("latin-1")[:64]


def _record(record: RequestRecord, answer: SharedAnswer) -> None:
    record.first_token = answer.first_token
    record.retries = sum(attempt.retries for attempt in answer.attempts)
    if answer.attempts:
        attempt = answer.attempts[-1]
        record.upstream, record.fallback, record.audit = attempt.upstream, attempt.fallback, attempt.audit
        record.queue_ms = attempt.queue_ms
    stream = answer.stream
    if stream is not None:
        record.tokens_in = stream.usage.prompt
        record.tokens_cached = stream.usage.cache_read_input_tokens
        record.tokens_out = stream.usage.output_tokens
        record.tools = stream.tool_calls
        record.leaked = stream.leaked
        record.repaired = stream.repaired
        record.stop_reason = stream.stop_reason or ""
    failure = answer.failure
    if failure is not None and not record.cause:
        record.cause = failure.cause.value
