"""The FastAPI shell: which path goes to which handler. Every decision is elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route

from llmstack.catalog.routes import Target, resolve
from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused, unavailable
from llmstack.protocol.request import Translator
from llmstack.proxy.answer_service import AnswerService
from llmstack.proxy.api_paths import named_paths
from llmstack.proxy.attempt import ProxyContext
from llmstack.proxy.callers import Callers
from llmstack.proxy.conversations import Conversations
from llmstack.proxy.documents import Documents
from llmstack.proxy.engine_care import EngineCare
from llmstack.proxy.engine_deaths import EngineDeaths
from llmstack.proxy.gate import ClientGone, Gate, Policy, read_body
from llmstack.proxy.held_back import HeldBack
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.loop_watch import LoopWatch
from llmstack.proxy.model_list import ModelList
from llmstack.proxy.opened_tools import OpenedTools
from llmstack.proxy.plain_services import PLAIN, PlainServices
from llmstack.proxy.preflight import Preflight
from llmstack.proxy.relay import Relay
from llmstack.proxy.report import Capture, Reporter, error_location
from llmstack.proxy.respond import App, Receive, Scope, Send, refuse, respond, respond_json
from llmstack.proxy.shared_answer import InFlight
from llmstack.proxy.tool_ids import ToolIds
from llmstack.proxy.turns import FairTurns
from llmstack.proxy.upstreams import Upstreams
from llmstack.proxy.warm_starts import WarmStarts
from llmstack.proxy.web.side_calls import SideCalls
from llmstack.supervisor import Supervisor
from llmstack.warmstart.audit import Auditor
from llmstack.warmstart.toolcalls import ToolCallStore

REFRESH_S = 0.5
CROWDED_S = 60.0
SAVE_S = 5.0  # with the drain it stays below the 35 s after which systemd kills


class Proxy:
    """All parts of one proxy; `asgi` is what uvicorn runs."""

    def __init__(
        self,
        live: LiveConfig,
        policy: Policy,
        reporter: Reporter,
        capture: Capture | None = None,
        supervisor: Callable[[], Supervisor] | None = None,
    ) -> None:
        """supervisor: of the local server."""
        log_event = reporter.event
        self.live = live
        self.reporter = reporter
        self.loop_watch = LoopWatch(reporter.registry, log_event)
        self.upstreams = Upstreams(live, EngineDeaths(supervisor, log_event, live.secrets))
        self.engine_care = EngineCare(self.upstreams, supervisor, log_event)
        self.in_flight = InFlight()
        self.callers = Callers(live, log_event)
        self.turns = FairTurns(self._room, self.callers.refusal)
        self.warm_starts = WarmStarts(self.upstreams, log_event)
        translator = Translator()
        self.tool_calls = ToolCallStore(live.home.slots, translator.replay, log_event)
        context = ProxyContext(
            live=live,
            upstreams=self.upstreams,
            translator=translator,
            preflight=Preflight(self.upstreams),
            ids=ToolIds(translator.replay.knows),
            warm_starts=self.warm_starts,
            tool_calls=self.tool_calls,
            auditor=Auditor(),
            held_back=HeldBack(log_event),
            opened=OpenedTools(self.upstreams, log_event),
            log_event=log_event,
            turns=self.turns,
        )
        self.relay = Relay(live, self.upstreams, context.held_back, log_event, self.callers, self.turns)
        web, read = SideCalls(live), Documents()
        answers = AnswerService(context)
        self.conversations = Conversations(
            answers, self.in_flight, policy, self.relay, read, self.callers, web, capture
        )
        models, gemini = ModelList(live, self.callers, time.time()), "/v1beta/models/{call:path}"
        plain = PlainServices(live, self.relay, policy, self.callers)
        self.crowded = 0
        self._crowded_at = float("-inf")
        live.changed = self.upstreams.forget_refusals
        live.deployed = self._deployed
        self.opened = context.opened
        app = FastAPI(
            openapi_url=None,
            lifespan=self._lifespan,
            routes=[
                Route("/v1/messages", _Handler(log_event, self.conversations.messages, "POST")),
                Route("/v1/messages/count_tokens", _Handler(log_event, self.conversations.count_tokens, "POST")),
                Route("/v1/chat/completions", _Handler(log_event, self.conversations.chat, "POST")),
                Route("/v1/responses", _Handler(log_event, self.conversations.responses, "POST")),
                Route("/v1/responses/input_tokens", _Handler(log_event, self.conversations.count_input, "POST")),
                Route("/v1/responses/{id}", _Handler(log_event, self.conversations.stored_response, "GET", "DELETE")),
                Route("/v1/models", _Handler(log_event, models.all, "GET")),
                Route("/v1/models/{name:path}", _Handler(log_event, models.one, "GET")),
                *(Route(path, _Handler(log_event, plain.answer, "POST")) for path in PLAIN),
                Route("/v1beta/models", _Handler(log_event, models.all_of_gemini, "GET")),
                Route(gemini, _Handler(log_event, self.conversations.gemini, "POST"), methods=["POST"]),
                Route(gemini, _Handler(log_event, models.one_of_gemini, "GET")),
                Route("/api/event_logging/batch", _Handler(log_event, _nothing, "POST")),
                Route("/llmstack/warm/{action}", _Handler(log_event, self._warm, "POST")),
                Route("/health", _Handler(log_event, self._health, "GET", "HEAD")),
                Route("/metrics", _Handler(log_event, self._metrics, "GET")),
                Route("/", _Handler(log_event, _root, "GET", "HEAD")),
                Route("/{path:path}", _Handler(log_event, _unknown)),
            ],
        )
        self.gate = Gate(app, live, policy, reporter, self.loop_watch.working_on, self.callers)
        self.asgi: App = self.gate

    def _deployed(self) -> None:
        """Another engine, or another model: what was held against the one before is no longer."""
        self.upstreams.deaths.forget()
        self.opened.forget()

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        beside = (
            self._refresh(),
            self._write_use(),
            self.warm_starts.watch(),
            self.tool_calls.watch(),
            self.loop_watch.watch(),
            self.engine_care.watch(),
        )
        tasks = [loop.create_task(work) for work in beside]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for end in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(end, Exception):  # a watch that ended before its time: nobody has heard of it yet
                    self.reporter.event("fault", {"error": type(end).__name__, "at": error_location(end)})
            await self.tool_calls.write()
            if (use := self.callers.changed_use()) is not None:
                self.callers.write(use)
            with suppress(Exception):  # the server may be gone before us; what it held is lost then, no more
                async with asyncio.timeout(SAVE_S):
                    await self.warm_starts.save_all()
            await self.upstreams.close()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            self.refresh_once()
            self.reporter.tasks.set(len(asyncio.all_tasks()))

    async def _write_use(self) -> None:
        """What the keys used is on disk within half a second, so that a new start goes on with it."""
        while True:
            await asyncio.sleep(REFRESH_S)
            if (use := self.callers.changed_use()) is not None:
                await asyncio.to_thread(self.callers.write, use)

    def _room(self) -> int | None:
        """How many requests the local server is sent at once; any number while nobody shares it."""
        server = self.live.server
        return max(server.n_parallel, 1) if server is not None and self.live.keys.keys else None

    def refresh_once(self) -> None:
        """One pass over the files and the gauges. A fault in it is logged: the next pass comes all the same."""
        try:
            self.live.refresh()
            for name, healthy in self.upstreams.health.items():
                self.reporter.up.labels(name).set(1 if healthy else 0)
            self.reporter.queued.set(self.in_flight.waiting)
        except Exception as error:
            self.reporter.event("fault", {"error": type(error).__name__, "at": error_location(error)})

    def full(self, result: str) -> None:
        """There was no room for another connection: said once a minute at most."""
        self.crowded += 1
        now = time.monotonic()
        if now - self._crowded_at >= CROWDED_S:
            self._crowded_at = now
            self.reporter.event("connections", {"result": result, "since_the_start": self.crowded})

    def drain(self) -> None:
        """No new work from now on; what runs may finish."""
        self.gate.draining = True

    def cut(self) -> None:
        """The end of patience: every stream gets its error event."""
        for answer in list(self.in_flight.active):
            answer.stop(unavailable("the proxy is stopping", Cause.STOPPING, 2))

    # ---- small answers ------------------------------------------------------------------------------------

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ok: the local server answers. starting: it loads. degraded: it is down, or models.toml is wrong."""
        upstreams: dict[str, str] = {}
        target = self._local()
        if target is not None:
            status = await self.upstreams.get(target, "/health", 1.0)
            state = {200: "ok", 503: "starting", 0: "down"}.get(status, "ok" if status < 500 else "down")
            state = "hung" if state == "down" and self.engine_care.is_silent else state
            upstreams[target.name] = state
            self.upstreams.note_health(target, healthy=state == "ok")
        for name, healthy in self.upstreams.health.items():
            upstreams.setdefault(name, "ok" if healthy else "down")
        local = upstreams.get("local")
        status_word = "starting" if local == "starting" else "ok" if local in (None, "ok") else "degraded"
        warm = self.warm_starts.local.status_json()
        answer: dict[str, Any] = {"status": status_word, "upstreams": upstreams, "warm": warm}
        if deadly := self.upstreams.deaths.to_json():
            answer["deadly"] = deadly
        if self.engine_care.hung:
            answer["hung"] = self.engine_care.hung
        if self.live.problem is not None:
            answer["problem"] = self.live.problem
            answer["status"] = "degraded" if status_word == "ok" else status_word
        await respond_json(scope, send, answer)

    async def _warm(self, scope: Scope, receive: Receive, send: Send) -> None:
        """For this program's own commands: save before a stop, restore after a start, warm on demand."""
        action = scope["path_params"]["action"]
        if action == "save":
            await respond_json(scope, send, {"saved": await self.warm_starts.save_all()})
        elif action == "restore":
            await respond_json(scope, send, await self.warm_starts.local.restore_again())
        elif action == "prefill":
            body = await read_body(scope, receive, self.conversations.policy)
            prefix = await self.conversations.prefix_body(body) if body else None
            await respond_json(scope, send, await self.warm_starts.local.warm(prefix))
        else:
            await refuse(scope, send, Failure(FailureKind.NOT_FOUND, f"there is nothing at {scope['path'][:200]}"))

    def _local(self) -> Target | None:
        settings = self.live.routing.upstreams.get("local")
        return resolve("local", settings, None) if settings is not None else None

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
        await respond(scope, send, 200, self.reporter.metrics(), headers)


class _Handler:
    """An ASGI endpoint with its methods; Starlette's own answer to a wrong one is not in Anthropic's shape."""

    def __init__(self, log_event: Callable[[str, dict[str, Any]], None], handler: App, *methods: str) -> None:
        self._log_event = log_event
        self._handler = handler
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._methods and scope["method"] not in self._methods:
            failure = Failure(FailureKind.INVALID, f"{scope['path']} takes {' or '.join(self._methods)}", status=405)
            await refuse(scope, send, failure)
            return
        started = False

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._handler(scope, receive, watched)
        except Refused as refused:
            await refuse(scope, send, refused.failure)
        except ClientGone:
            scope["record"].disconnected, scope["record"].status = True, 499
        except RecursionError:
            await refuse(scope, send, Failure(FailureKind.INVALID, "the request is nested too deeply"))
        except Exception as error:
            # A fault of the proxy itself: the client gets its shape, the log the place, nobody a traceback.
            self._log_event(
                "fault", {"id": scope["record"].id, "error": type(error).__name__, "at": error_location(error)}
            )
            if not started:
                failure = Failure(FailureKind.API, f"the proxy failed ({type(error).__name__})", Cause.MALFORMED)
                await refuse(scope, send, failure)


async def _root(scope: Scope, receive: Receive, send: Send) -> None:
    await respond_json(scope, send, {"name": "llmstack", "api": named_paths()})


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The client's telemetry ends here."""
    await respond_json(scope, send, {})


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    await refuse(scope, send, Failure(FailureKind.NOT_FOUND, f"there is nothing at {scope['path'][:200]}"))
