"""One question, tried at one upstream after the other until one has answered.

| what the upstream does                        | what happens                                                    |
| --------------------------------------------- | --------------------------------------------------------------- |
| refuses the connection, dies before an answer | the next target if the route has one, else 529 with retry-after |
| 503, still loading                            | waits a little, then as above                                   |
| 400 that names a field it does not know       | asked again without it, remembered                              |
| its own parser fails on the model's output    | asked again once, if nothing has been sent                      |
| closes after finish_reason without [DONE]     | the message is complete                                         |
| closes before finish_reason                   | an error event                                                  |
"""

from __future__ import annotations

import asyncio
import re
import secrets
import string
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from llmstack.catalog.routes import Choice, Target
from llmstack.protocol import chat, sse
from llmstack.protocol.anthropic import Event, MessagesRequest
from llmstack.protocol.errors import Cause, Failure, Kind, Refused, from_upstream
from llmstack.protocol.request import ChatRequest, Dialect, Translator
from llmstack.protocol.stream import MessageStream, State, StreamSettings
from llmstack.proxy.live import Live
from llmstack.proxy.preflight import Counted, Preflight
from llmstack.proxy.run import Run
from llmstack.proxy.upstreams import Upstreams
from llmstack.proxy.warm_starts import WarmStarts
from llmstack.warmstart.audit import Auditor
from llmstack.warmstart.prefix import opening_of
from llmstack.warmstart.toolcalls import ToolCallStore

LOADING_WAIT_S = 8.0
PROGRESS_S = 5.0
AFTER_FINISH_S = 5.0  # for usage and [DONE], once finish_reason has come
_encode = msgspec.json.Encoder().encode
_ALPHABET = string.ascii_letters + string.digits
_ID = re.compile(r"[A-Za-z0-9_-]{9,64}\Z")
_OPTIONAL = (
    "stream_options", "reasoning_effort", "parallel_tool_calls", "top_k", "chat_template_kwargs", "response_format",
    "thinking_budget_tokens", "return_progress", "cache_prompt", "verbose", "response_fields", "reasoning_content",
    "max_tokens", "temperature", "top_p",
)  # fmt: skip
# What a refusal calls a field, where it is not its name: Ollama says `"gemma3" does not support thinking`.
_CALLED = {"reasoning_effort": "reasoning_effort|thinking|think"}
_UNKNOWN_FIELD = re.compile(
    r"unsupported|unknown|unrecognized|not supported|not permitted|extra (?:inputs|fields)|unexpected|does not support",
    re.IGNORECASE,
)


class ToolIds:
    """Ids of tool calls: the upstream's own where it is new and fit, so that templates that print it see it again."""

    def __init__(self, known: Callable[[str], bool], most: int = 65536) -> None:
        """known: whether an earlier life of the proxy gave this id away."""
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._known = known
        self._most = most

    def new(self, upstream_id: str, used: frozenset[str]) -> str:
        found = upstream_id
        if not _ID.match(found) or found in self._seen or found in used or self._known(found):
            found = "toolu_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))
        self._seen[found] = None
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return found


@dataclass(slots=True)
class Asking:
    """What attempts share: one per proxy."""

    live: Live
    upstreams: Upstreams
    translator: Translator
    preflight: Preflight
    ids: ToolIds
    warm_starts: WarmStarts
    tool_calls: ToolCallStore
    auditor: Auditor
    say: Callable[[str, dict[str, Any]], None]

    async def answer(self, run: Run, request: MessagesRequest, choice: Choice, request_id: str) -> None:
        """The work of a run. Raises Refused when no target could answer and nothing was sent."""
        failure: Failure | None = None
        for number, target in enumerate(choice.targets):
            if failure is not None:
                run.fallback = f"{choice.targets[number - 1].name}->{target.name}: {failure.cause.value}"
                self.say("fallback", {"id": request_id, "to": target.name, "cause": failure.cause.value})
            run.upstream = target.name
            if target.kind == "anthropic":
                if run.size:
                    raise Refused(failure or Failure(Kind.API, "a stream has begun already", Cause.UPSTREAM))
                run.handover = target
                return
            try:
                await Attempt(self, run, request, target, request_id).run()
                return
            except Refused as refused:
                failure = refused.failure
                begun = run.stream is not None and run.stream.emitted
                if begun or failure.cause.value not in choice.fallback_on:
                    raise
        assert failure is not None
        raise Refused(failure)


class Attempt:
    def __init__(self, asking: Asking, run: Run, request: MessagesRequest, target: Target, request_id: str) -> None:
        self._a = asking
        self._run = run
        self._request = request
        self._target = target
        self._id = request_id
        self._counted: Counted | None = None
        self._limit: int | None = None
        self._last_progress = time.monotonic()

    async def run(self) -> None:
        """Raises Refused as long as nothing was sent that cannot be taken back."""
        parse_failures = 0
        learned = 0
        loading_until = time.monotonic() + LOADING_WAIT_S
        while True:
            request, body = await self._prepare()
            try:
                async with self._a.warm_starts.prefix_ready(self._target, request.body, self._run.conversation):
                    await self._ask(request, body)
                return
            except Refused as refused:
                failure = refused.failure
                stream = self._run.stream
                if stream is not None and stream.emitted:
                    raise
                if failure.cause is Cause.PARSE and parse_failures == 0:
                    parse_failures += 1
                elif failure.cause is Cause.LOADING and time.monotonic() < loading_until:
                    await asyncio.sleep(0.5)
                elif failure.cause is Cause.UPSTREAM and learned < 4 and self._learn(failure, request):
                    learned += 1
                else:
                    raise
                self._run.retries += 1

    async def _prepare(self) -> tuple[ChatRequest, bytes]:
        a, target = self._a, self._target
        dialect = self._dialect()
        await a.tool_calls.ready()
        request = a.translator.to_chat(self._request, dialect)
        body = request.body
        body["model"] = target.model or self._request.model
        self._limit = a.live.context(target)
        max_tokens = request.max_tokens
        if target.kind == "llama-server":
            self._counted = await a.preflight.check(target, request, self._limit)
            if self._limit is not None and max_tokens is not None and self._counted.exact:
                max_tokens = max(1, min(max_tokens, self._limit - self._counted.tokens))
        elif self._limit is not None:
            self._counted = a.preflight.estimate(request, self._limit)
        if max_tokens is not None:
            body[dialect.max_tokens_field] = max_tokens
        if not target.stream:
            body["stream"] = False
            body.pop("stream_options", None)
        if target.extra_body:
            body.update(target.extra_body)
        self._begin_stream(request)
        for note in request.notes:
            a.say("note", {"id": self._id, "note": note})
        data = _encode(body)
        self._run.sent_body = data
        return request, data

    def _dialect(self) -> Dialect:
        target, live = self._target, self._a.live
        images = target.images
        if images == "auto":
            images = "pass" if live.sees(target) else "placeholder"
        unsupported = self._a.upstreams.unsupported.get(target.name, set()) | target.without
        field = target.max_tokens_field
        if field in unsupported:
            field = "max_completion_tokens" if field == "max_tokens" else "max_tokens"
        return Dialect(
            llama_server=target.kind == "llama-server",
            images=images,  # type: ignore[arg-type]
            server_tools=target.server_tools,
            thinking=target.thinking,
            replay_reasoning=target.replay_reasoning and "reasoning_content" not in unsupported,
            fields=target.fields,
            max_tokens_field=field,
            max_output=live.max_output(target),
            unsupported=frozenset(unsupported),
            stable_prefix=target.stable_prefix,
        )

    def _begin_stream(self, request: ChatRequest) -> None:
        target = self._target
        ids = self._a.ids
        used = request.used_ids
        settings = StreamSettings(
            model=self._request.model,
            message_id="msg_" + secrets.token_hex(12),
            new_tool_id=lambda upstream_id: ids.new(upstream_id, used),
            upstream=target.name,
            tools=request.toolbox.schemas,
            remember=self._a.translator.replay.remember,
            input_tokens=self._counted.tokens if self._counted is not None else 0,
            stop_sequences=request.stop_sequences,
            recover_leaks=target.recover_tool_calls,
            repair=target.repair_arguments,
            thinking=request.thinking if target.thinking_blocks == "asked" else target.thinking_blocks == "always",
        )
        old = self._run.stream
        if old is None or old.state is State.START:
            self._run.stream = MessageStream(settings)
        else:
            old.restart(settings)

    def _learn(self, failure: Failure, request: ChatRequest) -> bool:
        """A 400 that names an optional field we sent: that field is left out from now on."""
        if not _UNKNOWN_FIELD.search(failure.message):
            return False
        known = self._a.upstreams.unsupported.setdefault(self._target.name, set())
        for name in _OPTIONAL:
            sent = name in request.body or (name == "reasoning_content" and self._target.replay_reasoning)
            called = _CALLED.get(name, name)
            if sent and name not in known and re.search(rf"\b(?:{called})\b", failure.message):
                known.add(name)
                self._a.say("unsupported", {"upstream": self._target.name, "field": name})
                return True
        return False

    # ---- the exchange with the upstream -------------------------------------------------------------------

    async def _ask(self, request: ChatRequest, body: bytes) -> None:
        a, target, run = self._a, self._target, self._run
        asked = time.monotonic()
        response = await a.upstreams.post(target, "/v1/chat/completions", body, a.upstreams.headers(target))
        try:
            if response.status != 200:
                tokens = self._counted.tokens if self._counted is not None else 0
                failure = await a.upstreams.failure(target, response, estimate=tokens, limit=self._limit or 0)
                a.upstreams.health[target.name] = failure.cause not in (Cause.LOADING, Cause.OVERLOADED)
                raise Refused(failure)
            a.upstreams.health[target.name] = True
            run.queue_ms = (time.monotonic() - asked) * 1000
            if response.content_type == "text/event-stream":
                await self._read_stream(response)
            else:
                await self._read_whole(response)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._broken(a.upstreams.failure_of(target, error))
        finally:
            response.close() if not response.content.at_eof() else response.release()
        stream = run.stream
        if self._counted is not None and stream is not None and stream.state is State.DONE and stream.failure is None:
            a.preflight.learn(self._counted, stream.usage.input_tokens + stream.usage.cache_read_input_tokens)
        if target.kind == "llama-server" and stream is not None and stream.usage.input_tokens:
            reused = stream.usage.cache_read_input_tokens
            total = stream.usage.input_tokens + reused
            run.audit = a.auditor.audit(
                f"{run.conversation}|{opening_of(request.body)}", request.body, reused=reused, total=total
            )

    def _broken(self, failure: Failure) -> None:
        """The connection failed. Complete after finish_reason; taken back before anything was sent; else an error."""
        stream = self._run.stream
        assert stream is not None
        if stream.state is State.FINISHING:
            self._run.emit(stream.end())
        elif stream.state is State.DONE:
            return
        elif stream.emitted:
            self._run.emit(stream.fail(failure))
        else:
            raise Refused(failure)

    async def _read_stream(self, response: aiohttp.ClientResponse) -> None:
        run, stream = self._run, self._run.stream
        assert stream is not None
        decoder = sse.SSEDecoder()
        content = response.content
        while True:
            if stream.state is State.FINISHING:
                with suppress(TimeoutError):
                    async with asyncio.timeout(AFTER_FINISH_S):
                        data = await content.readany()
                        if data and self._feed(decoder.receive_data(data), stream):
                            return
                        if data:
                            continue
                run.emit(stream.end())
                return
            data = await content.readany()
            try:
                payloads = decoder.receive_data(data) if data else decoder.end()
            except sse.TooLong as error:
                self._broken(Failure(Kind.API, f"{self._target.name} sent {error}", Cause.MALFORMED))
                return
            if self._feed(payloads, stream):
                return
            if not data:
                self._ended(stream)
                return
            if run.size > 65536:
                await run.room()

    def _feed(self, payloads: list[bytes], stream: MessageStream) -> bool:
        """True when the answer is complete or has failed."""
        run = self._run
        events: list[Event] = []
        for payload in payloads:
            if payload == b"[DONE]":
                run.emit(events)
                self._ended(stream)
                return True
            try:
                chunk = chat.decode(payload)
            except (msgspec.DecodeError, RecursionError):
                run.emit(events)
                self._broken(
                    Failure(Kind.API, f"{self._target.name} sent an event that is no chat chunk", Cause.MALFORMED)
                )
                return True
            if chunk.error is not None and not stream.emitted:
                raise Refused(from_upstream(0, chunk.error, name=self._target.name, limit=self._limit or 0))
            events += stream.receive(chunk)
            if chunk.prompt_progress is not None:
                self._progress(chunk.prompt_progress)
        if events:
            if run.first_byte is None:
                run.first_byte = time.monotonic()
            run.emit(events)
        return stream.state is State.DONE

    def _ended(self, stream: MessageStream) -> None:
        if stream.state is State.FINISHING or stream.emitted:
            self._run.emit(stream.end())
        elif stream.state is not State.DONE:
            raise Refused(
                Failure(Kind.API, f"{self._target.name} ended its answer before it was complete", Cause.CUT, status=502)
            )

    async def _read_whole(self, response: aiohttp.ClientResponse) -> None:
        """An upstream that answers in one piece: the same machine, one chunk."""
        stream = self._run.stream
        assert stream is not None
        try:
            chunk = chat.decode(await response.read())
        except (msgspec.DecodeError, RecursionError):
            raise Refused(
                Failure(Kind.API, f"{self._target.name} sent an answer that is no completion", Cause.MALFORMED)
            ) from None
        if chunk.error is not None:
            raise Refused(from_upstream(0, chunk.error, name=self._target.name, limit=self._limit or 0))
        self._run.first_byte = time.monotonic()
        self._run.emit(stream.receive(chunk))
        self._ended(stream)

    def _progress(self, progress: chat.Progress) -> None:
        """Prefill in the log, every five seconds at most."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_S:
            self._last_progress = now
            self._a.say(
                "prefill",
                {
                    "id": self._id,
                    "done": progress.processed,
                    "of": progress.total,
                    "cached": progress.cache,
                    "ms": round(progress.time_ms),
                },
            )
