"""The FastAPI shell: which path goes to which handler. Every decision is elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.routing import Route

from llmstack.protocol.errors import Cause, Failure, Kind, Refused, unavailable
from llmstack.protocol.request import Translator
from llmstack.proxy.attempt import Asking, ToolIds
from llmstack.proxy.gate import App, Gate, Policy, Receive, Scope, Send, read_body, refuse
from llmstack.proxy.live import Live
from llmstack.proxy.messages import Messages
from llmstack.proxy.preflight import Preflight
from llmstack.proxy.relay import Relay
from llmstack.proxy.report import Capture, Exchange, Reporter, place
from llmstack.proxy.run import Runs
from llmstack.proxy.upstreams import Upstreams
from llmstack.proxy.warm_starts import WarmStarts
from llmstack.warmstart.audit import Auditor
from llmstack.warmstart.toolcalls import ToolCallStore

REFRESH_S = 0.5
SAVE_S = 5.0  # with the drain it stays below the 35 s after which systemd kills


class Proxy:
    """All parts of one proxy; `asgi` is what uvicorn runs."""

    def __init__(self, live: Live, policy: Policy, reporter: Reporter, capture: Capture | None = None) -> None:
        self.live = live
        self.reporter = reporter
        self.upstreams = Upstreams(live)
        self.runs = Runs()
        preflight = Preflight(self.upstreams)
        self.warm_starts = WarmStarts(self.upstreams, reporter.event)
        translator = Translator()
        self.tool_calls = ToolCallStore(live.home.slots, translator.replay, reporter.event)
        self.asking = Asking(
            live, self.upstreams, translator, preflight, ToolIds(translator.replay.knows), self.warm_starts,
            self.tool_calls, Auditor(), reporter.event,
        )  # fmt: skip
        self.relay = Relay(live, self.upstreams, policy, reporter.event)
        self.messages = Messages(self.asking, self.runs, policy, self.relay, capture)
        self.started = time.time()
        live.changed = self.upstreams.unsupported.clear
        say = reporter.event
        app = FastAPI(
            openapi_url=None,
            lifespan=self._lifespan,
            routes=[
                Route("/v1/messages", _Handler(say, self.messages, "POST")),
                Route("/v1/messages/count_tokens", _Handler(say, self.messages.count_tokens, "POST")),
                Route("/v1/chat/completions", _Handler(say, self.relay.chat, "POST")),
                Route("/v1/models", _Handler(say, self._models, "GET")),
                Route("/v1/models/{name:path}", _Handler(say, self._model, "GET")),
                Route("/api/event_logging/batch", _Handler(say, _nothing, "POST")),
                Route("/llmstack/warm/{action}", _Handler(say, self._warm, "POST")),
                Route("/health", _Handler(say, self._health, "GET", "HEAD")),
                Route("/metrics", _Handler(say, self._metrics, "GET")),
                Route("/", _Handler(say, _root, "GET", "HEAD")),
                Route("/{path:path}", _Handler(say, _unknown)),
            ],
        )
        self.gate = Gate(app, live, policy, reporter)
        self.asgi: App = self.gate

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        beside = (self._refresh(), self.warm_starts.watch(), self.tool_calls.watch())
        tasks = [loop.create_task(work) for work in beside]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await self.tool_calls.write()
            with suppress(Exception):  # the server may be gone before us; what it held is lost then, no more
                async with asyncio.timeout(SAVE_S):
                    await self.warm_starts.save_all()
            await self.upstreams.close()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            self.live.refresh()
            for name, healthy in self.upstreams.health.items():
                self.reporter.up.labels(name).set(1 if healthy else 0)
            self.reporter.queued.set(sum(1 for run in self.runs.active if run.first_byte is None))

    def drain(self) -> None:
        """No new work from now on; what runs may finish."""
        self.gate.draining = True

    def cut(self) -> None:
        """The end of patience: every stream gets its error event."""
        for run in list(self.runs.active):
            run.stop(unavailable("the proxy is stopping", Cause.STOPPING, 2))

    # ---- small answers ------------------------------------------------------------------------------------

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ok: the local server answers. starting: it loads. degraded: it is down, or models.toml is wrong."""
        upstreams: dict[str, str] = {}
        target = self._local()
        if target is not None:
            status = await self.upstreams.get(target, "/health", 1.0)
            state = {200: "ok", 503: "starting", 0: "down"}.get(status, "ok" if status < 500 else "down")
            upstreams[target.name] = state
            self.upstreams.health[target.name] = state == "ok"
        for name, healthy in self.upstreams.health.items():
            upstreams.setdefault(name, "ok" if healthy else "down")
        local = upstreams.get("local")
        status_word = "starting" if local == "starting" else "ok" if local in (None, "ok") else "degraded"
        warm = self.warm_starts.local.status_json()
        answer: dict[str, Any] = {"status": status_word, "upstreams": upstreams, "warm": warm}
        if self.live.problem is not None:
            answer["problem"] = self.live.problem
            answer["status"] = "degraded" if status_word == "ok" else status_word
        await _json(scope, send, answer)

    async def _warm(self, scope: Scope, receive: Receive, send: Send) -> None:
        """For this program's own commands: save before a stop, restore after a start, warm on demand."""
        action = scope["path_params"]["action"]
        if action == "save":
            await _json(scope, send, {"saved": await self.warm_starts.save_all()})
        elif action == "restore":
            await _json(scope, send, await self.warm_starts.local.restore_again())
        elif action == "prefill":
            body = await read_body(scope, receive, self.messages.policy)
            request = self.messages.prefix_body(body) if body else None
            await _json(scope, send, await self.warm_starts.local.warm(request))
        else:
            await refuse(scope, send, Failure(Kind.NOT_FOUND, f"there is nothing at {scope['path'][:200]}"))

    def _local(self) -> Any:
        settings = self.live.routing.upstreams.get("local")
        if settings is None:
            return None
        from llmstack.catalog.routes import resolve

        return resolve("local", settings, None)

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["exchange"].status = 200
        headers = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.reporter.metrics()})

    def _listed(self) -> list[dict[str, Any]]:
        """Each model in Anthropic's shape, with the fields OpenAI's clients read besides."""
        deployed = self.live.deployed
        names = list(dict.fromkeys([*([deployed.model.name] if deployed else []), *self.live.routing.names()]))
        return [entry for name in names if (entry := self._entry(name)) is not None]

    def _entry(self, name: str) -> dict[str, Any] | None:
        choice = self.live.routing.choose(name)
        if choice is None or not choice.targets:
            return None
        target = choice.targets[0]
        created = int(self.started)
        entry: dict[str, Any] = {
            "type": "model",
            "id": name,
            "display_name": target.display_name or name,
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created)),
            "object": "model",
            "created": created,
            "owned_by": target.name,
        }
        context, output = self.live.context(target), self.live.max_output(target)
        if context:
            entry["max_input_tokens"] = entry["context_window"] = context
        if output or context:
            entry["max_tokens"] = output or context
        return entry

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        listed = self._listed()
        answer: dict[str, Any] = {"object": "list", "data": listed, "has_more": False}
        answer["first_id"] = listed[0]["id"] if listed else None
        answer["last_id"] = listed[-1]["id"] if listed else None
        await _json(scope, send, answer)

    async def _model(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"]["name"]
        entry = self._entry(name)
        if entry is None:
            await refuse(scope, send, Failure(Kind.NOT_FOUND, f"no model is called {name!r} here"))
        else:
            await _json(scope, send, entry)


class _Handler:
    """An ASGI endpoint with its methods; Starlette's own answer to a wrong one is not in Anthropic's shape."""

    def __init__(self, say: Callable[[str, dict[str, Any]], None], handler: App, *methods: str) -> None:
        self._say = say
        self._handler = handler
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._methods and scope["method"] not in self._methods:
            failure = Failure(Kind.INVALID, f"{scope['path']} takes {' or '.join(self._methods)}", status=405)
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
        except RecursionError:
            await refuse(scope, send, Failure(Kind.INVALID, "the request is nested too deeply"))
        except Exception as error:
            # A fault of the proxy itself: the client gets its shape, the log the place, nobody a traceback.
            self._say("fault", {"id": scope["exchange"].id, "error": type(error).__name__, "at": place(error)})
            if not started:
                failure = Failure(Kind.API, f"the proxy failed ({type(error).__name__})", Cause.MALFORMED)
                await refuse(scope, send, failure)


async def _json(scope: Scope, send: Send, value: Any) -> None:
    exchange: Exchange = scope["exchange"]
    exchange.status = 200
    data = msgspec.json.encode(value)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        (b"request-id", exchange.id.encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else data})


async def _root(scope: Scope, receive: Receive, send: Send) -> None:
    await _json(scope, send, {"name": "llmstack", "api": ["/v1/messages", "/v1/models", "/v1/chat/completions"]})


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The client's telemetry ends here."""
    await _json(scope, send, {})


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    await refuse(scope, send, Failure(Kind.NOT_FOUND, f"there is nothing at {scope['path'][:200]}"))
