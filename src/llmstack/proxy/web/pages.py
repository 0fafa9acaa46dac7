"""Fetches one page of the public internet.

| what could lead inside                            | what keeps it out                                                |
| ------------------------------------------------- | ---------------------------------------------------------------- |
| an address of this machine or its network         | each host is resolved, and one private address refuses it        |
| a name that means another machine a moment later  | the connection goes to the addresses that were looked at         |
| a redirect                                        | each is a new address: looked at, resolved and counted           |
| an HTTP proxy of the environment                  | none is used: it would resolve the name itself                   |
| a page without an end, or packed                  | time, bytes and unpacked bytes are bounded                       |
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import urljoin

import aiohttp
import psutil
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from llmstack.protocol.limits import most
from llmstack.protocol.web.address import IP, PageAddress, is_public, not_allowed, page_address
from llmstack.protocol.web.calls import PageWish
from llmstack.protocol.web.domains import DomainRules
from llmstack.protocol.web.refusal import WebRefused
from llmstack.proxy.upstreams import TooMuch, bounded
from llmstack.proxy.web.page_reader import PageKind, kind_of

_LOOKUPS = ThreadPoolExecutor(most("web_calls"), "lookup")  # slow names of strangers hold up no other thread
Resolve = Callable[[str, int], Awaitable[list[IP]]]
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {
    "accept": "text/markdown, text/html;q=0.9, application/xhtml+xml;q=0.9, text/plain;q=0.8, */*;q=0.1",
    "accept-encoding": "gzip",
    "user-agent": "llmstack",
}


@dataclass(frozen=True, slots=True)
class RawPage:
    """url: of the last redirect. charset: as its server says, or ""."""

    url: str
    kind: PageKind
    charset: str
    data: bytes


async def resolved(host: str, port: int) -> list[IP]:
    """Every address of a host. Raises OSError."""
    lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    infos = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, lookup)
    return list(dict.fromkeys(ipaddress.ip_address(info[4][0]) for info in infos))


def may_be_reached(address: IP) -> bool:
    """Whether it is of the public internet, and not one of this machine's own."""
    return is_public(address) and str(address) not in _own()


def _own() -> set[str]:
    return {entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries}


class _Checked(AbstractResolver):
    """Answers with the addresses that were looked at, whatever the DNS says by now."""

    def __init__(self, addresses: list[IP]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Pages:
    """resolve and may_reach: the world as it is, unless a test says otherwise."""

    resolve: Resolve = resolved
    may_reach: Callable[[IP], bool] = may_be_reached
    most_s: float = float(most("web_page_seconds"))

    async def fetch(self, wish: PageWish) -> RawPage:
        """Raises WebRefused."""
        try:
            async with asyncio.timeout(self.most_s):
                return await self._followed(wish.address, wish.domains)
        except TimeoutError:
            raise _inaccessible(f"The page did not come within {self.most_s:g} s.", "timeout") from None

    async def _followed(self, address: PageAddress, domains: DomainRules) -> RawPage:
        for _ in range(most("web_redirects") + 1):
            if not domains.permit(address.url):
                raise not_allowed("The lists of allowed and blocked domains do not permit that address.")
            page = await self._one(address)
            if isinstance(page, RawPage):
                return page
            address = page
        raise _inaccessible(f"The page redirects more than {most('web_redirects')} times.", "redirect")

    async def _one(self, address: PageAddress) -> RawPage | PageAddress:
        """The page, or where it redirects to."""
        checked = await self._addresses(address)
        connector = aiohttp.TCPConnector(resolver=_Checked(checked), force_close=True, use_dns_cache=False)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    auto_decompress=False,
                    max_headers=most("answer_headers"),
                ) as session,
                session.get(URL(address.url), headers=_HEADERS, allow_redirects=False) as response,
            ):
                if response.status in _REDIRECTS:
                    return page_address(urljoin(address.url, response.headers.get("location", "")))
                return await self._page(address, response)
        except TooMuch:
            raise WebRefused("content_too_large", "The page is larger than a page may be.", "too_large") from None
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError):
            raise _inaccessible("The certificate of the page's host is not trusted.", "certificate") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise _inaccessible("The page cannot be reached.", "unreachable") from None

    async def _addresses(self, address: PageAddress) -> list[IP]:
        if address.literal is not None:
            addresses = [address.literal]
        else:
            try:
                addresses = await self.resolve(address.host, address.port)
            except (OSError, UnicodeError, ValueError):
                raise _inaccessible("The page's host has no address.", "no_host") from None
        if not addresses or not all(self.may_reach(one) for one in addresses):
            raise not_allowed("An address of this machine or of its network is not fetched.")
        return addresses

    async def _page(self, address: PageAddress, response: aiohttp.ClientResponse) -> RawPage:
        if response.status == 429:
            raise WebRefused("too_many_requests", "The page's host was asked too often (429).", "rate_limit")
        if response.status != 200:
            raise _inaccessible(f"The page's host answered {response.status}.", "status")
        kind = kind_of(response.content_type)
        if kind is None:
            sentence = "Only texts, HTML, JSON, XML and PDF are read; the page is something else."
            raise WebRefused("unsupported_content_type", sentence, "content_type")
        data = unpacked(await bounded(response, most("web_page")), response.headers.get("content-encoding", ""))
        return RawPage(address.url, kind, response.charset or "", data)


def unpacked(data: bytes, encoding: str) -> bytes:
    """Raises TooMuch for more than a page may have, WebRefused for an encoding that was not asked for."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return data
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise _inaccessible("The page is packed in a way that was not asked for.", "malformed")
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip's and zlib's heads are told apart by zlib itself
    try:
        plain = unpacking.decompress(data, most("web_page") + 1)
    except zlib.error:
        raise _inaccessible("The page is packed wrongly.", "malformed") from None
    if len(plain) > most("web_page"):
        raise TooMuch("a page that is too large when it is unpacked")
    return plain


def _inaccessible(sentence: str, cause: str) -> WebRefused:
    return WebRefused("url_not_accessible", sentence, cause)
