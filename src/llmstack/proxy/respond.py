"""The one way in which an answer leaves: its status and headers, then its body.

Every answer carries the request's id, and names the upstream it came from and the fallback that was taken, if any.
The RequestRecord in scope["record"] knows all three, and learns the status here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import msgspec

from llmstack.protocol.errors import GEMINI_STATUS, Cause, Failure, FailureKind
from llmstack.proxy.api_paths import words_of
from llmstack.proxy.report import RequestRecord

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = (b"content-type", b"application/json")
EVENT_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


async def start(scope: Scope, send: Send, status: int, headers: Sequence[Header]) -> None:
    """The head of an answer. A request-id among `headers` (an upstream's own) stays."""
    record: RequestRecord = scope["record"]
    record.status = status
    sent = list(headers)
    own = b"request-id" if words_of(scope["path"]) == "anthropic" else b"x-request-id"
    if not any(name == own for name, _ in sent):
        sent.append((own, record.id.encode()))
    if record.upstream:
        sent.append((b"x-llmstack-upstream", record.upstream.encode("latin-1", "replace")))
    if record.fallback:
        sent.append((b"x-llmstack-fallback", record.fallback.encode("latin-1", "replace")))
    await send({"type": "http.response.start", "status": status, "headers": sent})


async def respond(scope: Scope, send: Send, status: int, body: bytes, headers: Sequence[Header]) -> None:
    """A whole answer. HEAD gets its headers only."""
    await start(scope, send, status, [*headers, (b"content-length", str(len(body)).encode())])
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def respond_json(scope: Scope, send: Send, value: Any) -> None:
    await respond(scope, send, 200, msgspec.json.encode(value), [JSON])


async def refuse(scope: Scope, send: Send, failure: Failure) -> None:
    """One error answer in the shape the path's clients know."""
    record: RequestRecord = scope["record"]
    words, status = words_of(scope["path"]), failure.http_status
    if words == "gemini":
        body, status = failure.to_gemini(), GEMINI_STATUS.get(status, status)
    else:
        body = failure.to_openai() if words == "openai" else failure.to_anthropic(record.id)
    record.cause = failure.cause.value
    headers = [JSON]
    if failure.retry_after_s is not None:
        headers.append((b"retry-after", str(failure.retry_after_s).encode()))
    if failure.kind is FailureKind.AUTHENTICATION or failure.cause is Cause.KEY:
        # Claude Code asks ten times more after a 401 or a 429, for minutes, and only then shows its text.
        headers.append((b"x-should-retry", b"false"))
    await respond(scope, send, status, body, headers)
