"""Asks the back end that the user chose, within limits of time and size, once, and follows no redirect.

An address of the user's own network is as good as any here: it is the user who named it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from llmstack.catalog.routes import UpstreamSettings, resolve
from llmstack.commands import command_line
from llmstack.protocol.limits import most
from llmstack.protocol.web.calls import SearchWish
from llmstack.protocol.web.hits import WebHit
from llmstack.protocol.web.refusal import WebRefused, trial, unavailable
from llmstack.protocol.web.services import (
    SERVICES,
    SearchService,
    WebExchange,
    last_word,
    permitted,
    read_answer,
    refused_by,
    require_length,
)
from llmstack.proxy.upstreams import TooMuch, bounded, proxy_for_url
from llmstack.proxy.web.program import output_of
from llmstack.web_settings import WebSettings

_ERROR_BODY = 4096


@dataclass(frozen=True, slots=True)
class SearchBackEnd:
    """settings: with a service. key: "" where it needs none. offline: requests stay on this machine."""

    settings: WebSettings
    key: str = ""
    offline: bool = False
    most_s: float = float(most("web_seconds"))

    async def search(self, wish: SearchWish) -> Sequence[WebHit]:
        """Raises WebRefused."""
        service = SERVICES.get(self.settings.service)
        if service is None:
            use = command_line("web-search", "use", "--help")
            raise unavailable(f"This stack knows no search back end of that name; `{use}`.", "no_api")
        require_length(service, wish.query)
        try:
            async with asyncio.timeout(self.most_s):
                data = await self._answer(service, wish)
        except TimeoutError:
            raise unavailable(
                f"{service.name} did not answer within {self.most_s:g} s; {trial()} tries it.", "timeout"
            ) from None
        return permitted(read_answer(service, data), wish.domains)

    async def _answer(self, service: SearchService, wish: SearchWish) -> bytes:
        if service.name == "command":
            return await output_of([*self.settings.command, last_word(wish.query)])
        base = (self.settings.base_url or service.base_url).rstrip("/")
        target = resolve(service.name, UpstreamSettings(base_url=base), None)
        if self.offline and not target.stays_here:
            allow = command_line("upstream", "offline", "off")
            raise unavailable(
                f"{service.name} is not on this machine, and models.toml says offline = true; `{allow}` allows it.",
                "offline",
            )
        return await self._sent(service, service.exchange(base, wish, self.key), proxy_for_url(target))

    async def _sent(self, service: SearchService, exchange: WebExchange, proxy: str | None) -> bytes:
        name = service.name
        try:
            async with (
                aiohttp.ClientSession(
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    auto_decompress=False,
                    max_headers=most("answer_headers"),
                ) as session,
                session.request(
                    exchange.method,
                    exchange.url,
                    data=exchange.body,
                    headers={**exchange.headers, "accept-encoding": "identity", "user-agent": "llmstack"},
                    allow_redirects=False,
                    proxy=proxy,
                ) as response,
            ):
                if response.status != 200:
                    raise refused_by(service, response.status, await response.content.read(_ERROR_BODY))
                return await bounded(response, most("web_answer"))
        except TooMuch:
            raise unavailable(f"{name} answered with more than an answer may have.", "too_large") from None
        except aiohttp.ClientPayloadError:
            raise unavailable(f"{name} broke off in its answer; {trial()} tries it.", "cut") from None
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError):
            raise unavailable(f"The certificate of {name} is not trusted; {trial()} tries it.", "certificate") from None
        except (aiohttp.ClientConnectionError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise unavailable(f"{name} cannot be reached; {trial()} tries it.", "unreachable") from None
        except (aiohttp.ClientError, ValueError) as error:
            if isinstance(error, WebRefused):
                raise
            raise unavailable(f"{name} did not answer as HTTP does; {trial()} tries it.", "malformed") from None
