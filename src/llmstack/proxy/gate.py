"""What every request passes before anything else looks at it: Host, Origin, token, size.

Decided on scope["path"] and the raw headers only (Starlette's BadHost, CVE-2026-48710). Loopback is no protection by
itself: a web page can reach it through DNS rebinding (Ollama, CVE-2024-28224), so Host must be a name of this machine.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused, invalid, unavailable
from llmstack.protocol.limits import most
from llmstack.proxy.api_paths import label_of
from llmstack.proxy.callers import Callers
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.report import Reporter, RequestRecord
from llmstack.proxy.respond import App, Receive, Scope, Send, refuse

MAX_BODY = most("body")  # Anthropic's own limit for a Messages request
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?\Z")
_OPEN_PATHS = frozenset({"/health"})
_OWNERS_PATHS = ("/llmstack/", "/metrics")


class ClientGone(Exception):
    """It left before its request was complete: there is nobody to answer."""


@dataclass(slots=True)
class ArrivingBodies:
    """Bytes of all bodies that are not complete yet: many halves together must not fill the memory."""

    most: int
    size: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """hosts: names besides the loopback ones that a Host header may carry. loopback: without TLS it listens there."""

    port: int
    loopback: bool = True
    hosts: frozenset[str] = frozenset()
    max_body: int = MAX_BODY
    body_timeout_s: float = 60.0
    arriving: ArrivingBodies = field(default_factory=lambda: ArrivingBodies(most("bodies")))


def new_request_id() -> str:
    return f"req_{secrets.token_hex(12)}"


def header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


class Gate:
    """The outermost ASGI layer. Handlers find their RequestRecord in scope["record"]."""

    def __init__(
        self,
        app: App,
        live: LiveConfig,
        policy: Policy,
        reporter: Reporter,
        working_on: Callable[[str], AbstractContextManager[None]] = lambda kind: nullcontext(),
        callers: Callers | None = None,
    ) -> None:
        """working_on(kind): around each request that passes."""
        self._callers = callers or Callers(live, reporter.event)
        self._working_on = working_on
        self._app = app
        self._live = live
        self._policy = policy
        self._reporter = reporter
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        record = RequestRecord(id=new_request_id(), method=scope["method"], path=path)
        record.quiet = path in ("/health", "/metrics", "/") and scope["method"] in ("GET", "HEAD")
        scope["record"] = record
        self._reporter.active.inc()
        try:
            failure = self.admit(scope, path)
            record.key = scope["caller"].name if "caller" in scope else ""
            if failure is not None:
                record.quiet = False
                await refuse(scope, send, failure)
            else:
                with self._working_on(label_of(path)):
                    await self._app(scope, receive, send)
        except asyncio.CancelledError:
            record.disconnected = True
            raise
        finally:
            self._reporter.active.dec()
            self._reporter.finish(record)

    def admit(self, scope: Scope, path: str) -> Failure | None:
        """None for a request that may pass, else why it may not."""
        failure = self._host(scope) or self._origin(scope)
        if failure is not None:
            return failure
        if self.draining and path not in _OPEN_PATHS:
            return unavailable("the proxy is stopping; ask again in a moment", Cause.STOPPING, 2)
        if path in _OPEN_PATHS or (path == "/" and scope["method"] in ("HEAD", "GET")):
            return None
        if path == "/metrics" and self._is_here(scope):
            return None
        return self._token(scope, path)

    def _host(self, scope: Scope) -> Failure | None:
        values = [value for name, value in scope["headers"] if name == b"host"]
        if len(values) != 1:
            return None if not values and scope.get("http_version") == "1.0" else invalid("a request needs one Host")
        match = _HOST.match(values[0])
        if match is None:
            return invalid("the Host header is no host name")
        name = match[1].decode("ascii").lower().strip("[]")
        if name == "localhost" or name in self._policy.hosts:
            return None
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return Failure(FailureKind.PERMISSION, f"the host name {name} is not one of this proxy's")
        if address.is_loopback or not self._is_here(scope):
            return None  # an address cannot be rebound; only names can
        return Failure(FailureKind.PERMISSION, f"the host {name} is not one of this proxy's")

    def _is_here(self, scope: Scope) -> bool:
        """Whether it comes from this machine for certain: TLS is for the others."""
        return self._policy.loopback and scope.get("scheme", "http") == "http"

    def _origin(self, scope: Scope) -> Failure | None:
        """A browser sends Origin; only a page this proxy served itself would be at home here."""
        origin = header(scope, b"origin")
        if origin is None:
            return None
        own = header(scope, b"host") or b""
        if origin.lower() in (b"http://" + own.lower(), b"https://" + own.lower()):
            return None
        return Failure(FailureKind.PERMISSION, "requests from web pages are not answered")

    def _token(self, scope: Scope, path: str) -> Failure | None:
        """What passes has its Caller in scope["caller"]; so has what is refused because of whose key it is."""
        self._live.refresh()
        offered: list[bytes] = []
        for name, value in scope["headers"]:
            if name in (b"x-api-key", b"x-goog-api-key"):
                offered.append(value.strip())
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                offered.append(value[7:].strip())
        caller, failure = self._callers.admit(offered)
        if caller is None:
            return failure
        scope["caller"] = caller
        if failure is None and not caller.is_owner and path.startswith(_OWNERS_PATHS):
            why = f"it takes the stack's own token, not the key of {caller.name}"
            return Failure(FailureKind.PERMISSION, f"{path[:200]} is the owner's: {why}", Cause.KEY)
        return failure


async def read_body(scope: Scope, receive: Receive, policy: Policy) -> bytes:
    """The whole body, never more than the limit in memory. Raises Refused (413, 408, 529), or ClientGone."""
    too_large = Failure(FailureKind.TOO_LARGE, f"the request is larger than {policy.max_body // (1024 * 1024)} MiB")
    length = header(scope, b"content-length")
    if length is not None and (not length.isdigit() or len(length) > 15 or int(length) > policy.max_body):
        raise Refused(too_large)
    pieces: list[bytes] = []
    size, arriving = 0, policy.arriving
    try:
        async with asyncio.timeout(policy.body_timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                piece = message.get("body", b"")
                size += len(piece)
                arriving.size += len(piece)
                if size > policy.max_body:
                    raise Refused(too_large)
                if arriving.size > arriving.most:
                    crowd = "too many requests are on their way to this proxy at once; ask again in a moment"
                    raise Refused(unavailable(crowd, Cause.OVERLOADED, 2))
                pieces.append(piece)
                if not message.get("more_body", False):
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    except TimeoutError:
        raise Refused(Failure(FailureKind.INVALID, "the request's body did not arrive in time", status=408)) from None
    finally:
        arriving.size -= size
