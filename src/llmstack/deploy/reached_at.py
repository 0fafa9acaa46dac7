"""What the proxy is called by: on this machine, and from others where it listens for them."""

from __future__ import annotations

from llmstack.deploy.ports import addresses
from llmstack.stackfile import ProxyEntry

_LOOPBACK = ("127.0.0.1", "::1")


def urls(proxy: ProxyEntry) -> tuple[str, ...]:
    """What other machines call it by, where it listens for them; else what this one does."""
    if not proxy.is_open:
        return (proxy.url,)
    hosts = addresses() if proxy.host in ("0.0.0.0", "::") else (proxy.host,)
    reached = [host for host in hosts if ":" not in host or proxy.host != "0.0.0.0"]
    names = (f"http://{name}:{proxy.port}" for name in proxy.allow_hosts)
    return (*names, *(ProxyEntry(host, proxy.port).url for host in reached if host not in _LOOPBACK))
