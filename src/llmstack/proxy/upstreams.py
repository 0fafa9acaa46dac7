"""The HTTP client towards the upstreams: one pool, errors as failures, bytes as they come."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.client_proto import ResponseHandler

from llmstack.catalog.routes import Target
from llmstack.commands import command_line
from llmstack.errors import StackError
from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused, from_upstream, unavailable, with_retry_after
from llmstack.protocol.json_text import value_of
from llmstack.protocol.limits import most
from llmstack.proxy.engine_deaths import EngineDeaths
from llmstack.proxy.live_config import LiveConfig

# Below cpp-httplib's five seconds: a connection the server is about to close is not used again.
POOL_IDLE_S = 3.0
_ERROR_BODY = 64 * 1024
_SECRET = 6  # characters; shorter ones would be found in any text


class TooMuch(aiohttp.ClientError):
    """More than an answer may have (protocol/limits.py)."""


class _FewInterim(ResponseHandler):
    """Of interim answers (100 Continue and its like) a server needs one or two; aiohttp itself reads any number."""

    _interim = 0

    def feed_data(self, data: Any, size: int = 0) -> None:
        self._interim = self._interim + 1 if 100 <= data[0].code < 200 else 0
        if self._interim <= most("interim"):
            super().feed_data(data, size)
        elif self.transport is not None and not self.transport.is_closing():
            self.set_exception(TooMuch(f"more than {most('interim')} interim answers"))
            self.transport.close()


async def bounded(response: aiohttp.ClientResponse, size: int) -> bytes:
    """The whole body. Raises TooMuch for a longer one."""
    pieces: list[bytes] = []
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size -= len(piece)
        if size < 0:
            raise TooMuch("an answer that is too long")
    return b"".join(pieces)


_CLOSED = (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)


def proxy_for_url(target: Target) -> str | None:
    """The HTTP proxy that the environment names for an upstream elsewhere (HTTPS_PROXY, ALL_PROXY, NO_PROXY and their
    lower-case twins); None for a direct way, which is always the one to an upstream on this machine."""
    if target.stays_here or target.base_url is None:
        return None
    parts = urlsplit(target.base_url)
    if urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


@dataclass(slots=True)
class Upstreams:
    """All connections to upstreams. health: by name, whether its last answer was one. deaths: of the local server."""

    live: LiveConfig
    deaths: EngineDeaths
    health: dict[str, bool] = field(default_factory=dict)
    starts_again_at: float | None = None  # monotonic seconds: of the local server, while it is down
    ended_at: float | None = None  # when it was ended because it hung (engine_care.py)
    _refused: dict[str, set[str]] = field(default_factory=dict)  # by name: fields it answered 400 to
    _session: aiohttp.ClientSession | None = None

    def note_health(self, target: Target, *, healthy: bool) -> None:
        self.health[target.name] = healthy

    def leave_out(self, target: Target, field: str) -> None:
        """From now on this upstream is not sent this field of a request."""
        self._refused.setdefault(target.name, set()).add(field)

    def left_out(self, target: Target) -> frozenset[str]:
        return frozenset(self._refused.get(target.name, ()))

    def forget_refusals(self) -> None:
        """Another server may answer by that name now."""
        self._refused.clear()

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=POOL_IDLE_S, ttl_dns_cache=60)
            connector._factory = partial(_FewInterim, loop=asyncio.get_running_loop())  # type: ignore[assignment]
            self._session = aiohttp.ClientSession(
                connector=connector,
                max_headers=most("answer_headers"),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
                read_bufsize=256 * 1024,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def address(self, target: Target) -> str:
        """Raises Refused (529) when the local server is not deployed."""
        base = self.live.base_url(target)
        if base is None:
            raise Refused(
                unavailable(f"no model is running: start the stack with `{command_line('up')}`", Cause.UNREACHABLE, 10)
            )
        return base

    def headers(self, target: Target) -> dict[str, str]:
        """Raises Refused (403, which a client does not try again) when the key of an upstream cannot be read."""
        headers = {"content-type": "application/json"}
        try:
            key = self.live.key(target)
        except StackError as error:
            hint = f"; next: {error.next}" if error.next else ""
            message = f"the key of {target.name} cannot be used: {error.what}{hint}"
            raise Refused(Failure(FailureKind.PERMISSION, message, Cause.UPSTREAM)) from None
        if key is not None:
            if target.kind == "anthropic":
                headers["x-api-key"] = key
            else:
                headers["authorization"] = f"Bearer {key}"
        headers.update(target.extra_headers)
        return headers

    async def post(
        self, target: Target, path: str, body: bytes, headers: Mapping[str, str], *, total_s: float | None = None
    ) -> aiohttp.ClientResponse:
        """The answer, whatever its status. Raises Refused when there is none."""
        timeout = aiohttp.ClientTimeout(
            total=total_s, sock_connect=target.connect_timeout_s, sock_read=target.timeout_s
        )
        url = self.address(target) + path
        proxy = proxy_for_url(target)
        again = True
        while True:
            try:
                return await self.session().post(
                    url, data=body, headers=headers, timeout=timeout, allow_redirects=False, proxy=proxy
                )
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                if again and isinstance(error.__cause__, aiohttp.ClientConnectionResetError):
                    again = False  # "Cannot write to closing transport": a pooled connection; nothing was sent
                    continue
                self.note_health(target, healthy=False)
                raise Refused(self.failure_of(target, error)) from None

    async def get(self, target: Target, path: str, timeout_s: float) -> int:
        """The status of a GET; 0 when there was no answer."""
        try:
            url = self.address(target) + path
            timeout = aiohttp.ClientTimeout(total=timeout_s)
            headers = self.headers(target)
            async with self.session().get(
                url, headers=headers, timeout=timeout, proxy=proxy_for_url(target), allow_redirects=False
            ) as response:
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError, Refused):
            return 0

    async def json(self, target: Target, path: str, body: bytes, timeout_s: float) -> Any:
        """The value of a small JSON answer. Raises Refused."""
        response = await self.post(target, path, body, self.headers(target), total_s=timeout_s)
        try:
            async with response:
                if response.status != 200:
                    raise Refused(await self.failure(target, response))
                return value_of(await bounded(response, most("small_answer")))
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
            raise Refused(self.failure_of(target, error)) from None

    async def failure(
        self, target: Target, response: aiohttp.ClientResponse, *, estimate: int = 0, limit: int = 0
    ) -> Failure:
        """An error answer as a failure in the client's words; at most 64 KB of it are read."""
        if 300 <= response.status < 400:  # a client that followed it would send its prompt to somebody else
            where = urlsplit(response.headers.get("location", "")).netloc.rpartition("@")[2][:200] or "elsewhere"
            message = f"{target.name} redirects to {where}, which is not followed: correct its base_url in models.toml"
            return Failure(FailureKind.API, message, Cause.UPSTREAM, status=502)
        data = self.hide(await self.error_body(response))
        try:
            error: Any = value_of(data)
        except msgspec.DecodeError:
            error = data.decode("utf-8", "replace").strip()[:500]
        failure = from_upstream(response.status, error, name=target.name, estimate=estimate, limit=limit)
        return with_retry_after(failure, response.headers.get("retry-after"))

    async def error_body(self, response: aiohttp.ClientResponse) -> bytes:
        """What an error answer says; at most 64 KB of it are read, for ten seconds at most."""
        pieces: list[bytes] = []
        left = _ERROR_BODY
        try:
            async with asyncio.timeout(10):
                while left > 0 and (data := await response.content.read(left)):
                    pieces.append(data)
                    left -= len(data)
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass  # what was read before still counts
        return b"".join(pieces)

    def hide(self, data: bytes) -> bytes:
        """Without the keys of this stack: an upstream's error may quote the one it was sent."""
        for secret in self.live.secrets():
            if len(secret) >= _SECRET:
                data = data.replace(secret.encode("latin-1"), b"[hidden]")
        return data

    def hidden(self, error: Any) -> Any:
        """The same, of an error value inside a stream."""
        try:
            return value_of(self.hide(msgspec.json.encode(error)))
        except (RecursionError, msgspec.DecodeError):
            return "an error that cannot be read"

    def _unreachable(self, target: Target) -> Failure:
        """Nobody listens. Of the local server it is known when it will be started again."""
        if not target.is_local:
            return unavailable(f"{target.name} cannot be reached", Cause.UNREACHABLE, 2)
        why = f"`{command_line('status')}` says why"
        wait = 0.0 if self.starts_again_at is None else self.starts_again_at - time.monotonic()
        if wait <= 2.0:
            return unavailable(f"{target.name} cannot be reached; {why}", Cause.UNREACHABLE, 2)
        seconds = min(round(wait + 0.5), 3600)
        message = f"{target.name} ended again and again; it is started again in {seconds} s; {why}"
        return unavailable(message, Cause.UNREACHABLE, seconds)

    def lost(self, target: Target, error: BaseException) -> None:
        """Whatever breaks a connection that stood may have been the end of the server."""
        if isinstance(error, _CLOSED) and not isinstance(error, aiohttp.ClientConnectorError):
            self.deaths.cut(target)

    def failure_of(self, target: Target, error: BaseException) -> Failure:
        """A failed connection in one sentence."""
        self.lost(target, error)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return unavailable(f"{target.name} does not answer", Cause.UNREACHABLE, 5)
        if isinstance(error, TimeoutError):
            return Failure(
                FailureKind.TIMEOUT, f"{target.name} said nothing for {target.timeout_s:.0f} s", Cause.TIMEOUT
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            return self._unreachable(target)
        if isinstance(error, TooMuch):
            return Failure(FailureKind.API, f"{target.name} sent {error}", Cause.MALFORMED)
        if target.is_local and self.ended_at is not None and time.monotonic() - self.ended_at < 15.0:
            return unavailable(f"{target.name} hung and was ended; it is being started again", Cause.UNREACHABLE, 5)
        if isinstance(error, _CLOSED):
            return unavailable(f"{target.name} closed the connection", Cause.UNREACHABLE, 2)
        return Failure(
            FailureKind.API,
            f"{target.name} sent an answer that cannot be read ({type(error).__name__})",
            Cause.MALFORMED,
        )
