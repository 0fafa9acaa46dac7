"""Is an upstream of any use to Claude Code? Asked as Claude Code would ask: through the proxy's own code, in process.

Address, key and model first, straight at the upstream; then an answer, a stream, a tool call and its result through
the translation. Each check says what is missing and what to do about it.
"""

from __future__ import annotations

import asyncio
import difflib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from llmstack.catalog.routes import Target, resolve
from llmstack.client import ollama
from llmstack.client.profile import files, routing
from llmstack.commands import command_line, quoted
from llmstack.deploy import keys
from llmstack.errors import BadInput, StackError
from llmstack.findings import Finding, Level
from llmstack.paths import Home
from llmstack.protocol.anthropic import AnyEvent, BlockDelta, ErrorEvent, MessageStop, decode_event
from llmstack.protocol.message import Assembler
from llmstack.protocol.sse import SSEDecoder
from llmstack.proxy.app import Proxy
from llmstack.proxy.gate import Policy
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.report import Reporter

_TIMEOUT_S = 120.0
_TOOL = {
    "name": "read_file",
    "description": "Reads a file and returns its text.",
    "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
}
_ASK_TOOL = "Read the file notes.txt with the read_file tool. Call the tool; do not answer yourself."


OnProgress = Callable[[str], None]
Post = Callable[..., Awaitable[httpx.Response]]  # a message's fields but the model and max_tokens


def check_upstream(home: Home, name: str, model: str | None, on_progress: OnProgress) -> tuple[Finding, ...]:
    """The checks in their order, up to one that makes the rest pointless. Raises BadInput for an unknown name."""
    routes = routing(home)
    if name not in routes.upstreams:
        names = ", ".join(sorted(routes.upstreams))
        near = difflib.get_close_matches(name, routes.upstreams, 1)
        better = command_line("upstream", "test", near[0]) if near else command_line("upstream", "add", name)
        raise BadInput(f"there is no upstream called {name}", why=f"known are {names}", next=better)
    keys.ensure(home.make())
    target = resolve(name, routes.upstreams[name], None)
    live = LiveConfig(home, lambda event, fields: None).start()
    examiner = _Examiner(home, live, target, model, on_progress)
    if routes.offline and not target.stays_here:
        return (
            Finding(
                "offline",
                Level.FAIL,
                f"{name} is not on this machine",
                remedy=command_line("upstream", "offline", "off"),
            ),
        )
    return tuple(examiner.run())


class _Examiner:
    def __init__(
        self, home: Home, live: LiveConfig, target: Target, model: str | None, on_progress: OnProgress
    ) -> None:
        self._home = home
        self._live = live
        self._target = target
        self._model = model
        self._on_progress = on_progress
        self._checks: list[Finding] = []

    def run(self) -> list[Finding]:
        base = self._live.base_url(self._target)
        if base is None:
            self._add("address", Level.FAIL, "no model is deployed here", command_line("up", "MODEL"))
            return self._checks
        headers = self._key()
        listed = self._address(base, headers) if headers is not None else None
        model = self._choose_model(list(listed)) if listed is not None else None
        if listed is None or model is None:
            return self._checks
        asyncio.run(self._ask(model))
        self._context(base, model, listed.get(model))
        return self._checks

    def _add(self, name: str, level: Level, finding: str, remedy: str = "") -> None:
        self._checks.append(Finding(name, level, finding, remedy=remedy))

    # ---- straight at the upstream ---------------------------------------------------------------------------

    def _key(self) -> dict[str, str] | None:
        target = self._target
        try:
            key = self._live.key(target)
        except StackError as error:
            self._add("key", Level.FAIL, error.what, error.next or command_line("upstream", "add", target.name))
            return None
        if key is None:
            self._add("key", Level.OK, "none needed")
            return dict(target.extra_headers)
        self._add("key", Level.OK, "there is one, readable by you alone")
        name = "x-api-key" if target.kind == "anthropic" else "authorization"
        value = key if target.kind == "anthropic" else f"Bearer {key}"
        version = {"anthropic-version": "2023-06-01"} if target.kind == "anthropic" else {}
        return {name: value, **version, **target.extra_headers}

    def _address(self, base: str, headers: dict[str, str]) -> dict[str, int | None] | None:
        """GET /v1/models: the cheapest question that shows address and key.

        Returns the models it lists with the tokens each takes, None where it does not say; None when it is of no use.
        """
        self._on_progress(f"asking {base}")
        name = self._target.name
        try:
            answer = httpx.get(f"{base}/v1/models", headers=headers, timeout=20, trust_env=not self._target.stays_here)
        except httpx.HTTPError as error:
            other = f"is its address another one? {command_line('upstream', 'add', name, '--base-url', 'URL')}"
            place = "start it; " if self._target.stays_here else "check the network; "
            start = {"ollama": "ollama serve", "local": command_line("up")}.get(name, place + other)
            self._add("address", Level.FAIL, f"nothing answers at {base} ({type(error).__name__})", start)
            return None
        self._add("address", Level.OK, f"{base} answers")
        # LiteLLM without a database looks a wrong key up in it, and answers 400 because there is none.
        if answer.status_code in (401, 403) or "no_db_connection" in answer.text[:500]:
            self._add(
                "key",
                Level.FAIL,
                f"{name} refuses the key (HTTP {answer.status_code})",
                command_line("upstream", "add", name),
            )
            return None
        return _listed(answer)

    def _choose_model(self, listed: list[str]) -> str | None:
        target = self._target
        model = self._model or target.model or self._model_of_profile() or (listed[0] if listed else None)
        if target.name == "local" and self._live.server is not None:
            model = self._live.server.model
        if model is None:
            remedy = command_line("upstream", "test", target.name, "--model", "M")
            self._add("model", Level.FAIL, "it lists no models, and none was named", remedy)
            return None
        if listed and model not in listed and target.name != "local":
            near = difflib.get_close_matches(model, listed, 3, 0.4) or listed[:3]
            words = ("add" if self._model is None else "test", target.name, "--model", near[0])
            remedy = f"ollama pull {quoted(model)}" if target.name == "ollama" else command_line("upstream", *words)
            self._add("model", Level.FAIL, f"it has no {model}; it has {', '.join(near)}", remedy)
            return None
        self._add("model", Level.OK, model + ("" if listed else " (it lists none)"))
        return model

    def _model_of_profile(self) -> str | None:
        model = files(self._home).table("profiles").get(self._target.name, {}).get("model")
        prefix = f"{self._target.name}/"
        return model.removeprefix(prefix) if isinstance(model, str) and model.startswith(prefix) else None

    # ---- through the translation ------------------------------------------------------------------------------

    async def _ask(self, model: str) -> None:
        name = model if self._target.name == "local" else f"{self._target.name}/{model}"
        async with _proxy(self._live) as client:

            async def post(**body: Any) -> httpx.Response:
                return await client.post("/v1/messages", json={"model": name, "max_tokens": 400, **body})

            for step in (self._answer, self._stream, self._tools):
                if not await step(post):
                    return

    async def _answer(self, post: Post) -> bool:
        self._on_progress("asking for an answer")
        system = [{"type": "text", "text": "Answer in one word."}]
        answer = await post(system=system, messages=[{"role": "user", "content": "Say yes."}])
        if answer.status_code != 200:
            self._add("answer", Level.FAIL, _error(answer), _remedy(self._target.name).get(answer.status_code, ""))
            return False
        usage = answer.json()["usage"]
        parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        tokens = sum(usage.get(part) or 0 for part in parts)
        if tokens < 2 or not usage["output_tokens"]:
            self._add("answer", Level.WARN, "it reports no usage: Claude Code cannot tell how full the context is")
        else:
            self._add("answer", Level.OK, f"{tokens} tokens in, {usage['output_tokens']} out")
        return True

    async def _stream(self, post: Post) -> bool:
        self._on_progress("asking for a stream")
        answer = await post(stream=True, messages=[{"role": "user", "content": "Count from 1 to 5."}])
        if answer.status_code != 200:
            self._add("stream", Level.FAIL, _error(answer), "set stream = false for this upstream")
            return True
        events = _events(answer.content)
        if sum(isinstance(event, MessageStop) for event in events) != 1:
            errors = (event.error.message for event in events if isinstance(event, ErrorEvent))
            failed = next(errors, "it ended early")
            self._add(
                "stream", Level.FAIL, f"the stream is not complete: {failed}", "set stream = false for this upstream"
            )
        else:
            self._add("stream", Level.OK, f"{sum(isinstance(event, BlockDelta) for event in events)} pieces")
        return True

    async def _tools(self, post: Post) -> bool:
        self._on_progress("asking for a tool call")
        question = {"role": "user", "content": _ASK_TOOL}
        answer = await post(stream=True, tools=[_TOOL], messages=[question])
        if answer.status_code != 200:
            self._add("tools", Level.FAIL, _error(answer), "choose a model that can call tools")
            return True
        content = _content(_events(answer.content))
        calls = [block for block in content if block["type"] == "tool_use"]
        if not calls:
            text = "".join(block.get("text", "") for block in content)[:80]
            self._add(
                "tools",
                Level.FAIL,
                f"no tool call came back, but: {text!r}",
                "choose a model that can call tools; Claude Code is of no use without",
            )
            return True
        result = {"type": "tool_result", "tool_use_id": calls[0]["id"], "content": "buy milk"}
        messages = [question, {"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
        answer = await post(tools=[_TOOL], messages=messages)
        if answer.status_code != 200:
            self._add("tools", Level.FAIL, f"the tool's result was not taken: {_error(answer)}")
        else:
            self._add("tools", Level.OK, f"called {calls[0]['name']}, and took the result")
        return True

    def _context(self, base: str, model: str, listed: int | None) -> None:
        """listed: the tokens that the host's own list gives for the model."""
        target = self._target
        if self._live.context(target) is not None or target.kind == "anthropic":
            context = self._live.context(target)
            if context is not None and context < ollama.ENOUGH_TOKENS:
                self._add("context", Level.WARN, f"{context} tokens are too few for Claude Code", "32768 or more")
            elif context is not None:
                self._add("context", Level.OK, f"{context} tokens")
        else:
            self._add(
                "context", Level.WARN,
                f"it takes {listed} tokens, but the proxy was not told so: Claude Code will count on a million"
                if listed else "not known: Claude Code will count on a million tokens",
                command_line("upstream", "add", target.name, "--model", model, "--context", listed or "N"),
            )  # fmt: skip
        if target.stays_here and target.kind == "openai" and ollama.is_ollama(base):
            self._context_of_ollama(base, model)

    def _context_of_ollama(self, base: str, model: str) -> None:
        for loaded in ollama.loaded(base):
            if loaded.name != model or loaded.context is None:
                continue
            needed = self._live.context(self._target) or ollama.ENOUGH_TOKENS
            if loaded.context < needed:
                self._add(
                    "num_ctx", Level.FAIL,
                    f"Ollama runs {model} with {loaded.context} tokens, and cuts off what is longer without a word",
                    command_line("upstream", "add", "ollama", "--model", model, "--context", max(needed, 65536)),
                )  # fmt: skip
            else:
                self._add("num_ctx", Level.OK, f"Ollama runs it with {loaded.context} tokens")


def _remedy(name: str) -> dict[int, str]:
    return {
        401: f"{command_line('upstream', 'add', name)}   with a key that is valid",
        429: "wait, or ask for a higher rate",
    }


@asynccontextmanager
async def _proxy(live: LiveConfig) -> AsyncIterator[httpx.AsyncClient]:
    """The proxy's application without a socket."""
    proxy = Proxy(live, Policy(port=0), Reporter(io.StringIO()))
    transport = httpx.ASGITransport(app=proxy.asgi)
    headers = {"x-api-key": live.token.decode(), "anthropic-version": "2023-06-01"}
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=headers, timeout=_TIMEOUT_S
        ) as client:
            yield client
    finally:
        await proxy.upstreams.close()


def _listed(answer: httpx.Response) -> dict[str, int | None]:
    """The models of a list, and the tokens each takes: vLLM says it in max_model_len, OpenRouter in context_length."""
    try:
        models = answer.json()["data"] if answer.status_code == 200 else []
        return {str(model["id"]): _tokens(model) for model in models}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _tokens(model: dict[str, Any]) -> int | None:
    tokens = model.get("max_model_len") or model.get("context_length")
    return tokens if isinstance(tokens, int) else None


def _error(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"


def _events(stream: bytes) -> list[AnyEvent]:
    decoder = SSEDecoder()
    payloads = [*decoder.receive_data(stream), *decoder.end()]
    return [event for payload in payloads if (event := decode_event(payload)) is not None]


def _content(events: list[AnyEvent]) -> list[dict[str, Any]]:
    """The message's blocks, put together from its events."""
    whole = Assembler()
    whole.receive(events)
    content: list[dict[str, Any]] = json.loads(whole.body())["content"]
    return content
