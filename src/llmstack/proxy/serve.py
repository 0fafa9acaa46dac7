"""Puts a proxy together from a home and runs it until it is told to stop."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from collections.abc import Callable, Sequence

from llmstack import started_from
from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.paths import Home
from llmstack.proxy.app import Proxy
from llmstack.proxy.gate import Policy
from llmstack.proxy.line_pipe import LinePipe
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.report import Capture, Reporter
from llmstack.proxy.server import DRAIN_S, bind, run
from llmstack.proxy.tls import TlsListener
from llmstack.stackfile import TlsEntry, url_of
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
    tls: TlsEntry | None = None,
) -> None:
    """supervisor: who restarts the local server when it dies, and can say that it did. tls: a second listener, for
    other machines; without it where its certificate has become one that cannot be used.

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
    listener = bind("127.0.0.1" if host == "localhost" else host, port)
    secured = _secured(tls, reporter) if tls is not None else None
    names = (*(name.lower() for name in allow_hosts), *(secured.certificate.names if secured is not None else ()))
    policy = Policy(port=port, loopback=loopback, hosts=frozenset(names))
    capture = Capture(home.captures) if debug else None
    proxy = Proxy(live, policy, reporter, capture, supervisor)
    start = {"url": f"http://{host}:{port}", "routes": len(live.routing.routes)}
    started_from.note(home.state, "proxy", shipped=("models.toml",))
    where = {"tls": url_of(secured.entry.host, secured.entry.port, "https")} if secured is not None else {}
    reporter.event("start", start | where)
    try:
        run(proxy, listener, drain_s=drain_s, tls=secured)
    finally:
        lines.close()


def _secured(tls: TlsEntry, reporter: Reporter) -> TlsListener | None:
    try:
        return TlsListener(tls, bind(tls.host, tls.port), reporter.event)
    except BadInput as error:  # this machine's own clients go on; `status` says it too
        reporter.event("certificate", {"result": "nobody is listened to with TLS", "why": error.what})
        return None
