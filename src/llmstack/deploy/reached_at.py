"""What the proxy is called by: on this machine, and from others where it listens for them."""

from __future__ import annotations

import time

from llmstack import certificate
from llmstack.access.keys import DAY_S, in_words
from llmstack.commands import command_line
from llmstack.deploy.ports import addresses
from llmstack.errors import BadInput
from llmstack.stackfile import ProxyEntry, TlsEntry, url_of

SOON_S = 21 * DAY_S  # a certificate that ends within it is spoken of
_LOOPBACK = ("127.0.0.1", "::1")


def urls(proxy: ProxyEntry) -> tuple[str, ...]:
    """What other machines call it by, where it listens for them; else what this one does. With a certificate only what
    that names, for a client refuses the rest."""
    if not proxy.is_open:
        return (proxy.url,)
    tls = proxy.tls
    host, port, scheme = (tls.host, tls.port, "https") if tls is not None else (proxy.host, proxy.port, "http")
    every = addresses() if host in ("0.0.0.0", "::") else (host,)
    reached = [one for one in every if (":" not in one or host != "0.0.0.0") and one not in _LOOPBACK]
    names = list(proxy.allow_hosts)
    named = _named(tls) if tls is not None else None
    if named is not None:
        names = list(dict.fromkeys([*names, *(name for name in named.names if "*" not in name)]))
        reached = [one for one in reached if one in named.addresses] if named.addresses or names else reached
    return tuple(url_of(one, port, scheme) for one in (*names, *reached))


def trouble(proxy: ProxyEntry | None) -> tuple[str, ...]:
    """What is wrong with the certificate, or soon will be: a sentence each."""
    tls = proxy.tls if proxy is not None else None
    if tls is None:
        return ()
    renew = f"{command_line('up', '--tls-cert', 'FILE', '--tls-key', 'FILE')}   takes another"
    try:
        read = certificate.examine(tls.cert, tls.key)
    except BadInput as error:
        return (f"{error.what}; {renew}",)
    if read.not_now:
        return (f"the certificate {tls.cert} {read.not_now}; {renew}",)
    if read.ends is not None and read.ends - time.time() < SOON_S:
        return (f"the certificate {tls.cert} ends at {in_words(read.ends)}; a renewed file is taken up by itself",)
    return ()


def _named(tls: TlsEntry) -> certificate.Certificate | None:
    try:
        return certificate.examine(tls.cert, tls.key)
    except BadInput:
        return None
