"""Bytes passed through: Messages requests to an Anthropic upstream, chat completions to an OpenAI one.

Nothing is parsed on the way back; the request changes only where the route says so (model, extra_body).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from llmstack.catalog.routes import Target
from llmstack.protocol.errors import Cause, Failure, Kind, Refused, invalid
from llmstack.protocol.reverse import StreamBack, WholeBack, to_messages
from llmstack.proxy.gate import Policy, Receive, Scope, Send, read_body
from llmstack.proxy.live import Live
from llmstack.proxy.report import Exchange
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


@dataclass(slots=True)
class Relay:
    live: Live
    upstreams: Upstreams
    policy: Policy
    say: Callable[[str, dict[str, Any]], None]

    async def messages(
        self, scope: Scope, receive: Receive, send: Send, target: Target, body: bytes, model: str
    ) -> None:
        """A Messages request to an upstream that speaks it. Without a route's model, byte for byte."""
        changes: dict[str, Any] = dict(target.extra_body)
        if target.model is not None and target.model != model:
            changes["model"] = target.model
        if changes:
            body = msgspec.json.encode({**msgspec.json.decode(body), **changes})
        query = scope["query_string"]
        path = scope["path"] + (f"?{query.decode('latin-1')}" if query else "")
        await self._pass(scope, receive, send, target, path, body, anthropic=True)

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/chat/completions: routed by model, tried along the fallback chain."""
        exchange: Exchange = scope["exchange"]
        body = await read_body(scope, receive, self.policy)
        asked = _decode(body)
        model = asked["model"]
        exchange.model, exchange.stream = model, bool(asked.get("stream"))
        choice = self.live.choose(model)
        if choice is None:
            raise Refused(invalid(f"no route for the model {model!r}"))
        exchange.route = choice.match
        for number, target in enumerate(choice.targets):
            last = number == len(choice.targets) - 1
            changes: dict[str, Any] = {**target.extra_body}
            if target.model is not None:
                changes["model"] = target.model
            path, back = "/v1/chat/completions", None
            sent = msgspec.json.encode({**asked, **changes}) if changes else body
            if target.kind == "anthropic":
                path, created = "/v1/messages", int(time.time())
                sent = msgspec.json.encode({**to_messages(asked, model), **changes})
                back = StreamBack(asked, model, created) if exchange.stream else WholeBack(model, created)
            try:
                await self._pass(scope, receive, send, target, path, sent, anthropic=False, back=back)
                return
            except Refused as refused:
                if last or refused.failure.cause.value not in choice.fallback_on:
                    raise
                exchange.fallback = f"{target.name}->{choice.targets[number + 1].name}: {refused.failure.cause.value}"
                self.say("fallback", {"id": exchange.id, "to": choice.targets[number + 1].name})

    async def _pass(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        target: Target,
        path: str,
        body: bytes,
        *,
        anthropic: bool,
        back: StreamBack | WholeBack | None = None,
    ) -> None:
        """back: turns an Anthropic upstream's answer into a completion. Raises Refused while nothing has been sent."""
        exchange: Exchange = scope["exchange"]
        exchange.upstream = target.name
        headers = self._headers(scope, target, anthropic)
        current = asyncio.current_task()
        assert current is not None
        watcher = asyncio.get_running_loop().create_task(_cancel_when_gone(receive, current))
        response: aiohttp.ClientResponse | None = None
        started = False
        try:
            response = await self.upstreams.post(target, path, body, headers)
            if response.status != 200 and not anthropic:
                raise Refused(await self.upstreams.failure(target, response))
            self.upstreams.health[target.name] = response.status < 500
            exchange.status = response.status
            started = True
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status,
                    "headers": self._back(response, exchange, back.content_type if back else None),
                }
            )
            failure = await self._body(send, response, target, back)
            if failure is not None:
                exchange.cause = failure.cause.value
                await send({"type": "http.response.body", "body": _last_word(response, failure, anthropic)})
            else:
                await send({"type": "http.response.body", "body": back.end() if back else b""})
        except asyncio.CancelledError:
            if not watcher.done():
                raise
            exchange.disconnected = True
            current.uncancel()
            if not started:
                exchange.status = 499
        finally:
            watcher.cancel()
            if response is not None:
                response.close() if not response.content.at_eof() else response.release()

    async def _body(
        self, send: Send, response: aiohttp.ClientResponse, target: Target, back: StreamBack | WholeBack | None
    ) -> Failure | None:
        try:
            while True:
                data = await response.content.readany()
                if not data:
                    return None
                if back is not None:
                    data = back.receive(data)
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            failure = self.upstreams.failure_of(target, error)
            return Failure(Kind.API, failure.message, Cause.CUT)

    def _headers(self, scope: Scope, target: Target, anthropic: bool) -> dict[str, str]:
        forwarded: dict[str, str] = {}
        if anthropic:
            for name, value in scope["headers"]:
                if name not in _NOT_FORWARDED:
                    forwarded[name.decode("latin-1")] = value.decode("latin-1")
        elif target.kind == "anthropic":
            forwarded["anthropic-version"] = "2023-06-01"
        return {**forwarded, **self.upstreams.headers(target)}

    def _back(
        self, response: aiohttp.ClientResponse, exchange: Exchange, kind: str | None
    ) -> list[tuple[bytes, bytes]]:
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in response.headers.items()
            if name.lower() not in _NOT_RETURNED and not (kind and name.lower() == "content-type")
        ]
        if kind:
            headers.append((b"content-type", kind.encode()))
        if "request-id" not in response.headers:
            headers.append((b"request-id", exchange.id.encode()))
        headers.append((b"x-llmstack-upstream", exchange.upstream.encode("latin-1", "replace")))
        if exchange.fallback:
            headers.append((b"x-llmstack-fallback", exchange.fallback.encode("latin-1", "replace")))
        return headers


def _decode(body: bytes) -> dict[str, Any]:
    try:
        asked = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Refused(invalid("the request is no valid JSON")) from None
    if not isinstance(asked, dict) or not isinstance(asked.get("model"), str):
        raise Refused(invalid("model: a string is required"))
    return asked


def _last_word(response: aiohttp.ClientResponse, failure: Failure, anthropic: bool) -> bytes:
    """A stream that was cut ends in an error the client can read; other bodies just end."""
    if response.content_type != "text/event-stream" or response.headers.get("content-encoding"):
        return b""
    if anthropic:
        return b"\n\nevent: error\ndata: " + failure.to_anthropic() + b"\n\n"
    return b"\n\ndata: " + failure.to_openai() + b"\n\n"


async def _cancel_when_gone(receive: Receive, task: asyncio.Task[Any]) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            task.cancel()
            return
