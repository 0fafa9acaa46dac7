"""Addresses of pages, and which machines a page may come from: those of the public internet, no other."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from itertools import islice
from urllib.parse import urlsplit, urlunsplit

from llmstack.protocol.limits import most
from llmstack.protocol.web.domains import ascii_host
from llmstack.protocol.web.hits import visible
from llmstack.protocol.web.refusal import WebRefused

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_DOTTED = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})(?:\.|\Z)){4}(?<!\.)\Z")
_URL = re.compile(r"https?://[^\s<>\"'`]+", re.IGNORECASE)
_LOOKED_AT = 20
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # IANA, "Internet Protocol Version 6 Address Space"
# IANA, "Special-Purpose Address Registry" (IPv4, IPv6): Python's own table lacks some of these in older releases.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4",
        "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PageAddress:
    """An address in one spelling: every reader of `url` sees the same host. host: in ASCII."""

    url: str
    host: str
    port: int

    @property
    def literal(self) -> IP | None:
        """The host, where it is an IP address itself."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def addresses_in(text: str) -> list[str]:
    """The first addresses that a text names, each once; one that is too long is cut, and stays too long."""
    first = (match[0][: most("web_url") + 1] for match in islice(_URL.finditer(text), _LOOKED_AT))
    return list(dict.fromkeys(address if len(address) > most("web_url") else _alone(address) for address in first))


def _alone(address: str) -> str:
    """Without the punctuation behind it, and without a bracket that was opened before it."""
    while address[-1] in ".,;:!?*]}" or (address[-1] == ")" and address.count("(") < address.count(")")):
        address = address[:-1]
    return address


def page_address(url: str) -> PageAddress:
    """Raises WebRefused for one that is not fetched."""
    if len(url) > most("web_url"):
        raise WebRefused("url_too_long", f"The address is longer than {most('web_url')} characters.", "invalid")
    if visible(url) != url or "\\" in url or any(char.isspace() for char in url):
        raise not_allowed("The address has characters that no address may have.")
    try:
        parts = urlsplit(url)
        port, host = parts.port, ascii_host(parts.hostname or "")
    except ValueError:
        raise not_allowed("That is no address of a page.") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not host or not host.isascii():
        raise not_allowed("Only pages with an http or https address are fetched.")
    if "@" in parts.netloc:
        raise not_allowed("An address with a user name or a password is not fetched.")
    if "%" in host or (host.replace(".", "").isdigit() and not _DOTTED.match(host)):
        # A zone of IPv6, or one number (2130706433) or three: what those lead to is the resolver's secret.
        raise not_allowed("An address of this machine or of its network is not fetched, nor one in an odd spelling.")
    port = port or _PORTS[scheme]
    if port not in _PORTS.values() and port < 1024:
        raise not_allowed(f"Port {port} belongs to another service than the web.")
    shown = f"[{host}]" if ":" in host else host
    where = shown if port == _PORTS[scheme] else f"{shown}:{port}"
    return PageAddress(urlunsplit((scheme, where, parts.path or "/", parts.query, "")), host, port)


def is_public(address: IP) -> bool:
    """Whether an address is of the public internet: not of this machine, its network, a carrier's, a group's, and not
    one of those in another spelling (IPv4 inside IPv6)."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST:
            return False
    special = any(address in network for network in _SPECIAL if network.version == address.version)
    return address.is_global and not special and not address.is_multicast


def not_allowed(sentence: str) -> WebRefused:
    return WebRefused("url_not_allowed", sentence, "not_allowed")
