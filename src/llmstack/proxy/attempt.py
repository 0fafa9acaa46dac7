"""One question, tried at one upstream, and asked again where that can help.

| what the upstream does                        | what happens                                        |
| --------------------------------------------- | --------------------------------------------------- |
| refuses the connection, dies before an answer | Unanswered: 529 with retry-after, or a fallback     |
| 503, still loading                            | waits a little, then as above                       |
| is one that this request ends                 | Unanswered: 400, or a fallback (engine_deaths.py)   |
| 400 that names a field it does not know       | asked again without it, remembered                  |
| refuses a tool's schema                       | asked again once with that tool's schema open       |
| 400, an older image cannot be decoded         | asked again with a sentence in the images' places   |
| its own parser fails on the model's output    | asked again once, if nothing has been sent          |
| answers                                       | answer_reader passes it on                          |
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import msgspec

from llmstack.catalog.routes import RouteChoice, Target
from llmstack.protocol.anthropic import MessagesRequest
from llmstack.protocol.chat import PrefillProgress
from llmstack.protocol.content import Images, sends_image
from llmstack.protocol.dialect import Dialect
from llmstack.protocol.errors import Cause, Failure, Refused
from llmstack.protocol.request import ChatRequest, Translator
from llmstack.protocol.stream import MessageStream
from llmstack.protocol.stream_settings import StreamSettings
from llmstack.protocol.stream_states import StreamState
from llmstack.proxy import death_table
from llmstack.proxy.answer_reader import AnswerReader
from llmstack.proxy.callers import THE_OWNER, Caller
from llmstack.proxy.death_table import EngineWork
from llmstack.proxy.fallback import Answered, Unanswered
from llmstack.proxy.held_back import HeldBack
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.loop_watch import others_turn
from llmstack.proxy.opened_tools import OpenedTools
from llmstack.proxy.preflight import Counted, Preflight
from llmstack.proxy.refused_fields import refused_field
from llmstack.proxy.shared_answer import AttemptRecord, SharedAnswer
from llmstack.proxy.tool_ids import ToolIds
from llmstack.proxy.turns import FairTurns
from llmstack.proxy.upstreams import Upstreams
from llmstack.proxy.warm_starts import WarmStarts
from llmstack.warmstart.audit import Audit, Auditor
from llmstack.warmstart.prefix import opening_of
from llmstack.warmstart.toolcalls import ToolCallStore

LOADING_WAIT_S = 8.0
MOST_FIELDS = 4  # left out in one attempt
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ProxyContext:
    """The collaborators of every attempt: one of each per proxy."""

    live: LiveConfig
    upstreams: Upstreams
    translator: Translator
    preflight: Preflight
    ids: ToolIds
    warm_starts: WarmStarts
    tool_calls: ToolCallStore
    auditor: Auditor
    held_back: HeldBack
    opened: OpenedTools
    log_event: Callable[[str, dict[str, Any]], None]
    turns: FairTurns = field(default_factory=FairTurns)


@dataclass(frozen=True, slots=True)
class Question:
    """What one SharedAnswer answers. documents: the texts of its PDFs (proxy/documents.py). conversation: session and
    agent of the client, where it names them. size: bytes of the request. caller: whose key it came with. extra: fields
    of a chat completion that have no name in a Messages request. signs: its client sends thinking back signed."""

    request: MessagesRequest
    documents: Mapping[str, str]
    route: RouteChoice
    request_id: str
    conversation: str = ""
    size: int = 0
    caller: Caller = THE_OWNER
    extra: Mapping[str, Any] = field(default_factory=dict)
    signs: bool = False

    @property
    def shows_thinking(self) -> bool:
        """Whether its client asked for thinking, and can tell later whose it was."""
        thinking = self.request.thinking
        return self.signs and thinking is not None and thinking.type != "disabled"


@dataclass(frozen=True, slots=True)
class _Prepared:
    """limit: tokens of the context, where it is known; counted: of the prompt, where they were counted."""

    request: ChatRequest
    body: bytes
    stream: MessageStream
    limit: int | None
    counted: Counted | None


def first_settings(model: str) -> StreamSettings:
    """Of a stream that has begun for its client before anybody could be asked."""
    return StreamSettings(model, "msg_" + secrets.token_hex(12), new_tool_id=str)


def work_of(context: ProxyContext, question: Question, dialect: Dialect) -> EngineWork:
    """What this question is to a server that dies on it.

    Within a session it is what user and model have said. After a 400 Claude Code (2.1.329) asks the same with other
    settings, other tools, and with them another description of its environment: that is the same question.
    """
    request, session = question.request, question.conversation
    spoken = [message for message in request.messages if message.role != "system"]
    if session and spoken:
        request = msgspec.structs.replace(request, system=None, messages=spoken)
    body = context.translator.to_chat(request, dialect, question.documents).body
    return death_table.request(body, session)


class Attempt:
    def __init__(
        self, context: ProxyContext, question: Question, target: Target, answer: SharedAnswer, record: AttemptRecord
    ) -> None:
        self._context = context
        self._question = question
        self._target = target
        self._answer = answer
        self._record = record
        self._undecoded = False
        self._opened = False

    async def run(self) -> Answered | Unanswered:
        parse_failures = 0
        fields_left_out = 0
        loading_until = time.monotonic() + LOADING_WAIT_S
        context, question = self._context, self._question
        while True:
            prepared, body = None, {}
            try:
                dialect = self._dialect()
                request = await self._translated(dialect)
                body = request.body
                async with (
                    context.turns.turn(self._target, question.caller),
                    context.upstreams.deaths.asking(self._target, partial(work_of, context, question, dialect)),
                ):
                    prepared = await self._prepare(request, dialect)
                    async with context.warm_starts.prefix_ready(self._target, body, question.conversation):
                        await self._ask(prepared)
                    if not self._answer.streaming and prepared.stream.failure is not None:
                        raise Refused(prepared.stream.failure)  # nothing of it was sent: it may still be a 400
                return Answered()
            except Refused as refused:
                failure = refused.failure
                if prepared is None:
                    return Unanswered(failure)
                if prepared.stream.emitted:
                    return Unanswered(failure, final=True)
                if failure.cause is Cause.PARSE and parse_failures == 0:
                    parse_failures += 1
                elif failure.cause is Cause.IMAGE and not (self._undecoded or sends_image(self._question.request)):
                    self._undecoded = True
                elif failure.cause is Cause.LOADING and time.monotonic() < loading_until:
                    await asyncio.sleep(0.5)
                elif failure.cause is Cause.UPSTREAM and fields_left_out < MOST_FIELDS and self._learn(failure, body):
                    fields_left_out += 1
                elif not self._opened and await context.opened.learn(self._target, failure, body):
                    self._opened = True
                else:
                    return Unanswered(failure)
                self._record.retries += 1

    # ---- before it is sent --------------------------------------------------------------------------------

    async def _translated(self, dialect: Dialect) -> ChatRequest:
        """Raises Refused."""
        context, question = self._context, self._question
        await context.tool_calls.ready()
        request = context.translator.to_chat(question.request, dialect, question.documents)
        request.body["model"] = self._target.model or question.request.model
        if question.extra:
            request.body |= self._extra(dialect)
        if question.request.ignored:
            context.held_back.note(self._target, question.request.ignored)
        await others_turn(question.size)
        return request

    def _extra(self, dialect: Dialect) -> dict[str, Any]:
        """What this upstream is given of the fields that only chat completions have."""
        extra = {name: value for name, value in self._question.extra.items() if name not in dialect.unsupported}
        return self._context.held_back.passed(self._target, extra) if dialect.llama_server else extra

    async def _prepare(self, request: ChatRequest, dialect: Dialect) -> _Prepared:
        """Raises Refused."""
        context, target, question = self._context, self._target, self._question
        body = request.body
        limit = context.live.context(target)
        counted: Counted | None = None
        max_tokens = request.max_tokens
        if target.kind == "llama-server":
            counted = await context.preflight.check(target, request, limit)
            if limit is not None and max_tokens is not None and counted.exact:
                max_tokens = max(1, min(max_tokens, limit - counted.tokens))
        elif limit is not None:
            counted = context.preflight.estimate(request, limit)
        if max_tokens is not None:
            body[dialect.max_tokens_field] = max_tokens
        if not target.stream:
            body["stream"] = False
            body.pop("stream_options", None)
        if target.extra_body:
            body.update(target.extra_body)
        stream = self._answer.open_stream(self._stream_settings(request, counted.tokens if counted is not None else 0))
        for note in request.notes:
            context.log_event("note", {"id": question.request_id, "note": note})
        await others_turn(question.size)
        self._record.sent_body = data = _encode(body)
        await others_turn(question.size)
        return _Prepared(request, data, stream, limit, counted)

    def _dialect(self) -> Dialect:
        target, live = self._target, self._context.live
        images = target.images
        if images == "auto":
            images = "pass" if live.sees(target) else "placeholder"
        read: Images = "checked" if images == "pass" and target.kind == "llama-server" else images
        read = "undecoded" if self._undecoded else read
        unsupported = self._context.upstreams.left_out(target) | target.without
        field = target.max_tokens_field
        if field in unsupported:
            field = "max_completion_tokens" if field == "max_tokens" else "max_tokens"
        return Dialect(
            llama_server=target.kind == "llama-server",
            images=read,
            server_tools=target.server_tools,
            thinking=target.thinking,
            thinking_budget=target.thinking_budget,
            replay_reasoning=target.replay_reasoning and "reasoning_content" not in unsupported,
            fields=target.fields,
            max_tokens_field=field,
            max_output=live.max_output(target),
            unsupported=unsupported,
            stable_prefix=target.stable_prefix,
            open_tools=self._context.opened.of(target) if target.kind == "llama-server" else frozenset(),
        )

    def _stream_settings(self, request: ChatRequest, input_tokens: int) -> StreamSettings:
        target, context = self._target, self._context
        return StreamSettings(
            model=self._question.request.model,
            message_id="msg_" + secrets.token_hex(12),
            new_tool_id=lambda upstream_id: context.ids.new(upstream_id, request.used_ids),
            upstream=target.name,
            tools=request.toolbox.schemas,
            remember=context.translator.replay.remember,
            input_tokens=input_tokens,
            stop_sequences=request.stop_sequences,
            recover_leaks=target.recover_tool_calls,
            repair=target.repair_arguments,
            thinking=request.thinking if target.thinking_blocks == "asked" else target.thinking_blocks == "always",
            forced=request.forced,
            names=request.toolbox.names,
            caller=request.toolbox.caller,
            show_reading=target.show_reading and self._question.shows_thinking,
        )

    # ---- the exchange with the upstream -------------------------------------------------------------------

    async def _ask(self, prepared: _Prepared) -> None:
        """Raises Refused."""
        context, target, limit = self._context, self._target, prepared.limit or 0
        upstreams = context.upstreams
        sent = time.monotonic()
        response = await upstreams.post(target, "/v1/chat/completions", prepared.body, upstreams.headers(target))
        reader = AnswerReader(self._answer, prepared.stream, target.name, limit, self._log_prefill, upstreams.hidden)
        try:
            if response.status != 200:
                tokens = prepared.counted.tokens if prepared.counted is not None else 0
                failure = await upstreams.failure(target, response, estimate=tokens, limit=limit)
                upstreams.note_health(target, healthy=failure.cause not in (Cause.LOADING, Cause.OVERLOADED))
                raise Refused(failure)
            upstreams.note_health(target, healthy=True)
            self._record.queue_ms = (time.monotonic() - sent) * 1000
            await reader.read(response)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reader.broken(upstreams.failure_of(target, error))
        except Refused as refused:
            if refused.failure.cause is Cause.CUT:
                upstreams.deaths.cut(target)
            raise
        finally:
            response.close() if not response.content.at_eof() else response.release()
        if prepared.stream.failure is not None and prepared.stream.failure.cause is Cause.CUT:
            upstreams.deaths.cut(target)
        self._learn_from_usage(prepared)

    def _learn_from_usage(self, prepared: _Prepared) -> None:
        stream, usage = prepared.stream, prepared.stream.usage
        total = usage.prompt
        if prepared.counted is not None and stream.state is StreamState.DONE and stream.failure is None:
            self._context.preflight.learn(prepared.counted, total)
        if self._target.kind == "llama-server" and usage.input_tokens:
            self._record.audit = self._audit(prepared.request.body, usage.cache_read_input_tokens, total)

    def _audit(self, body: dict[str, Any], reused: int, total: int) -> Audit:
        conversation = f"{self._question.conversation}|{opening_of(body)}"
        return self._context.auditor.audit(conversation, body, reused=reused, total=total)

    def _learn(self, failure: Failure, body: dict[str, Any]) -> bool:
        """A 400 that names an optional field we sent: that field is left out from now on."""
        target, upstreams = self._target, self._context.upstreams
        sent = {*body, "reasoning_content"} if target.replay_reasoning else body
        field = refused_field(failure.message, sent, upstreams.left_out(target))
        if field is None:
            return False
        upstreams.leave_out(target, field)
        self._context.log_event("unsupported", {"upstream": target.name, "field": field})
        return True

    def _log_prefill(self, progress: PrefillProgress) -> None:
        fields = {"done": progress.processed, "of": progress.total, "cached": progress.cache}
        fields["ms"] = round(progress.time_ms)
        self._context.log_event("prefill", {"id": self._question.request_id, **fields})
