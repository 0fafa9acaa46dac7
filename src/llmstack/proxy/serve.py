"""Puts a proxy together from a home and runs it until it is told to stop."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from collections.abc import Callable, Sequence

from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.paths import Home
from llmstack.proxy.app import Proxy
from llmstack.proxy.gate import Policy
from llmstack.proxy.line_pipe import LinePipe
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.report import Capture, Reporter
from llmstack.proxy.server import DRAIN_S, bind, run
from llmstack.supervisor import Supervisor

LEAST_TOKEN = 8  # characters


def is_loopback(host: str) -> bool:
    """Raises BadInput for what is neither an address nor localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise BadInput(f"{host} is no IP address", next="--host 127.0.0.1") from None


def serve(
    home: Home,
    host: str,
    port: int,
    *,
    allow_hosts: Sequence[str] = (),
    debug: bool = False,
    drain_s: float = DRAIN_S,
    supervisor: Callable[[], Supervisor] | None = None,
) -> None:
    """supervisor: who restarts the local server when it dies, and can say that it did.

    Raises StackError when it cannot start: no token or a readable one, a port that is taken."""
    os.umask(0o077)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    lines = LinePipe(sys.stderr.fileno())
    reporter = Reporter(lines)
    lines.on_loss = reporter.lost.inc
    loopback = is_loopback(host)
    live = LiveConfig(home, reporter.event).start()
    if len(live.token) < LEAST_TOKEN:
        what = f"the token in {home.token} has {len(live.token)} characters, and can be guessed"
        raise BadInput(what, next=f"remove {home.token}, then: {command_line('up')}")
    policy = Policy(port=port, loopback=loopback, hosts=frozenset(name.lower() for name in allow_hosts))
    capture = Capture(home.captures) if debug else None
    proxy = Proxy(live, policy, reporter, capture, supervisor)
    listener = bind("127.0.0.1" if host == "localhost" else host, port)
    reporter.event("start", {"url": f"http://{host}:{port}", "routes": len(live.routing.routes)})
    try:
        run(proxy, listener, drain_s=drain_s)
    finally:
        lines.close()
