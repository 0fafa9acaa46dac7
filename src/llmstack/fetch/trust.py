"""Where a download may be sent: redirects are followed by hand, each one judged first.

A pull that follows any redirect can be pointed at services of the machine's own network (the pull SSRF of
other model runners), or hand a token to a stranger.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from llmstack.commands import command_line
from llmstack.errors import NotSo

MAX_REDIRECTS = 5
HUB_HOSTS = ("huggingface.co", "hf.co")
"""The hub and its content servers (cdn-lfs.huggingface.co, cas-bridge.xethub.hf.co, …)."""


def addresses(host: str) -> tuple[str, ...]:
    """What a host name resolves to; empty when it does not."""
    try:
        return tuple({str(entry[4][0]) for entry in socket.getaddrinfo(host, None)})
    except OSError:
        return ()


def refusal(
    source: str,
    target: str,
    *,
    hub: bool,
    extra: Iterable[str] = (),
    resolve: Callable[[str], Iterable[str]] = addresses,
) -> str:
    """Why a redirect from `source` to `target` is not followed, or an empty string.

    hub: only the endpoint's own hosts and the hub's content servers count. extra: hosts the user allowed.
    """
    start, end = urlsplit(source), urlsplit(target)
    old, new = (start.hostname or "").lower(), (end.hostname or "").lower()
    if end.scheme not in ("http", "https") or not new:
        return "it is not an HTTP address"
    if end.username or end.password:
        return "it carries a user name"
    if start.scheme == "https" and end.scheme == "http":
        return "it leaves HTTPS"
    if new == old:
        return (
            ""
            if (start.port, start.scheme) == (end.port, end.scheme) or _public(old, resolve)
            else _other_port(end.port)
        )
    if any(_below(new, host.lower()) for host in extra):
        return ""
    if hub and not any(_below(new, host) for host in (*HUB_HOSTS, old)):
        return f"{new} is not one of the hub's hosts"
    if not _public(new, resolve):
        return f"{new} is inside a private network"
    return ""


def may_send_token(endpoint: str, target: str) -> bool:
    """The token goes to the endpoint itself and nowhere else (scheme, host and port)."""
    start, end = urlsplit(endpoint), urlsplit(target)
    return (start.scheme, start.hostname, start.port) == (end.scheme, end.hostname, end.port)


def check(source: str, target: str, *, hub: bool, extra: Iterable[str] = ()) -> None:
    """Raises NotSo when a redirect is not to be followed."""
    reason = refusal(source, target, hub=hub, extra=extra)
    if reason:
        host = urlsplit(target).hostname or "another address"
        raise NotSo(
            f"the download was redirected to {host}, which is refused: {reason}",
            next=f"if you trust that host: {command_line('models', 'pull', '…', '--allow-host', host)}",
        )


def _other_port(port: int | None) -> str:
    return f"it is another service of the same private machine (port {port})"


def _below(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _public(host: str, resolve: Callable[[str], Iterable[str]]) -> bool:
    """Every address of the host is one of the public internet; a name that resolves to nothing is let through
    (the request then fails by itself, and behind a web proxy this machine may resolve no names at all)."""
    try:
        ips: tuple[str, ...] = (str(ipaddress.ip_address(host)),)
    except ValueError:
        if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
            return False
        ips = tuple(resolve(host))
    return all(ipaddress.ip_address(address.partition("%")[0]).is_global for address in ips)
