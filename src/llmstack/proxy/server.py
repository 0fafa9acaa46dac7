"""uvicorn, with the limits it lacks, readiness and watchdog for systemd, and a drain of at most 30 s.

uvicorn 0.54 keeps a silent socket, or one with half a header, open for ever: this protocol gives a request line and
its headers ten seconds, and caps the number of connections by closing the one that has been idle longest. The cap is
below what open files allow, or it would never act: the kernel would shut everybody out first.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llmstack.errors import BadInput, MissingPart
from llmstack.protocol.limits import most
from llmstack.proxy.app import Proxy
from llmstack.proxy.tls import HANDSHAKE_S, TlsListener

HEADER_S = 10.0
KEEP_ALIVE_S = 75
MAX_CONNECTIONS = most("connections")
MAX_HEADER_BYTES = most("request_head")
MAX_HEADERS = most("request_headers")
OTHER_FILES = 128  # of the proxy itself: upstreams, saved states, a document's reader, epoll
PER_CONNECTION = 2  # open files: the client's socket, and one to its upstream
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
DRAIN_S = 25.0  # then every stream gets its error event; systemd's own limit is 30 s
LINGER_S = 5.0
RENEW_S = 2.0  # between two looks at the certificate's files


class Connection(Protocol):
    @property
    def idle(self) -> bool: ...

    transport: Any


class ConnectionLimits:
    """Shared by all connections of one server. most: open ones; header_s: seconds a request's headers may take.

    on_change(count) is called with the number of open connections, each time it changes; on_full(what was done) when
    there was no room for another one.
    """

    def __init__(
        self,
        most: int = MAX_CONNECTIONS,
        header_s: float = HEADER_S,
        on_change: Callable[[int], None] = lambda count: None,
        on_full: Callable[[str], None] = lambda result: None,
    ) -> None:
        self.most = most
        self.header_s = header_s
        self._on_change = on_change
        self._on_full = on_full
        self._open: dict[Connection, None] = {}  # the one that has been without a request for longest comes first

    @property
    def count(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """False when there is no room, even after the longest idle connection was closed; busy ones are not touched."""
        if len(self._open) >= self.most:
            idle = next((other for other in self._open if other.idle), None)
            self._on_full("refused one: none is idle" if idle is None else "closed the idlest one")
            if idle is None:
                return False
            idle.transport.abort()
            del self._open[idle]
        self._open[connection] = None
        self._on_change(len(self._open))
        return True

    def rest(self, connection: Connection) -> None:
        """Idle from now on: behind the others."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def remove(self, connection: Connection) -> None:
        if connection in self._open:
            del self._open[connection]
            self._on_change(len(self._open))


class LimitedProtocol(HttpToolsProtocol):
    limits: ConnectionLimits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_timer: asyncio.TimerHandle | None = None
        self._header_bytes = self._head_size = 0
        self._refused = self._head_complete = False
        if self.limits.admit(self):
            self._wait_for_header()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_timer()
        self.limits.remove(self)
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        if self.idle:
            if self._header_timer is None:
                self._wait_for_header()
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES + 256 * 1024:
                self._refuse_head()
                return
        if not self._refused:
            super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_complete:
            return  # a trailer field behind a chunked body is no header of the request
        super().on_header(name, value)
        self._head_size += len(name) + len(value)
        if len(self.headers) > MAX_HEADERS or self._head_size > MAX_HEADER_BYTES:
            self._refuse_head()

    def _refuse_head(self) -> None:
        """A reset would read as a proxy that is down; what still comes is not looked at."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self.transport.write(TOO_LARGE)
        self._header_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def on_message_begin(self) -> None:
        self._head_complete = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_complete = True
        if self._refused:
            return
        self._clear_timer()
        self._header_bytes = self._head_size = 0
        # The slow-reader check ends in an abort: closing would wait for a peer that reads nothing.
        self.scope["transport"] = self.transport  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.limits.rest(self)
        if self.cycle is not None and self.cycle.more_body and not self.transport.is_closing():
            # Answered before its body was there (413): a little time to read the answer, then the rest is cut.
            self._header_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def _wait_for_header(self) -> None:
        self._clear_timer()
        self._header_timer = self.loop.call_later(self.limits.header_s, self._too_slow)

    def _too_slow(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _clear_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def protocol_with(limits: ConnectionLimits) -> type[LimitedProtocol]:
    """uvicorn makes the connections itself: it takes a class, so the limits are the class's."""
    return type("ProtocolWithLimits", (LimitedProtocol,), {"limits": limits})


def notify(message: str) -> None:
    """sd_notify(3): one datagram to NOTIFY_SOCKET; nothing happens without it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.connect(address)
            channel.sendall(message.encode())
        except OSError:
            return


def watchdog_pause_s() -> float | None:
    """Half of what systemd allows between two signs of life; None when it watches nobody, or another process."""
    usec, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not usec or not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return max(int(usec) / 2_000_000, 0.05)


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, proxy: Proxy, drain_s: float, tls: TlsListener | None = None) -> None:
        super().__init__(config)
        self._proxy = proxy
        self._tls = tls
        self._drain_s = drain_s
        self._beside: list[asyncio.Task[None]] = []
        self._cutter: asyncio.TimerHandle | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            if self._tls is not None:
                await self._listen_with_tls(self._tls)
            notify("READY=1\nSTATUS=answering")
            pause = watchdog_pause_s()
            if pause is not None:
                self._beside.append(asyncio.get_running_loop().create_task(_signs_of_life(pause)))

    async def _listen_with_tls(self, tls: TlsListener) -> None:
        """uvicorn has one listener, or several of one kind; this one has the same connections behind a handshake."""

        def connection() -> asyncio.Protocol:
            made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            connection, sock=tls.socket, ssl=tls.context, backlog=2048, ssl_handshake_timeout=HANDSHAKE_S
        )
        self.servers.append(server)
        self._beside.append(loop.create_task(_renew(tls)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify("STOPPING=1\nSTATUS=finishing what runs")
        self._proxy.drain()
        self._cutter = asyncio.get_running_loop().call_later(self._drain_s, self._proxy.cut)
        try:
            await super().shutdown(sockets)
        finally:
            self._cutter.cancel()
            for task in self._beside:
                task.cancel()


async def _renew(tls: TlsListener) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        await asyncio.to_thread(tls.refresh)


async def _signs_of_life(pause_s: float) -> None:
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(pause_s)


def room_for_connections() -> int:
    """The soft limit of open files is raised to the hard one, as far as it is needed; what it allows of connections."""
    needed = OTHER_FILES + PER_CONNECTION * MAX_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    if soft != infinite and soft < needed:
        soft = needed if hard == infinite else min(needed, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    allowed = MAX_CONNECTIONS if soft == infinite else (soft - OTHER_FILES) // PER_CONNECTION
    return max(1, min(MAX_CONNECTIONS, allowed))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises MissingPart when the port is taken, BadInput when the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == 98:
            raise MissingPart(
                f"port {port} on {host} is taken", next=f"ss -ltnp 'sport = :{port}' names the owner"
            ) from None
        raise BadInput(f"cannot listen on {host} port {port}", why=error.strerror or str(error)) from None
    listener.setblocking(False)
    return listener


def connection_limits(proxy: Proxy) -> ConnectionLimits:
    """As many as open files allow; that these are fewer, or all taken, is said in the log."""
    allowed = room_for_connections()
    if allowed < MAX_CONNECTIONS:
        proxy.reporter.event("connections", {"most": allowed, "why": "the limit of open files (ulimit -n)"})
    return ConnectionLimits(allowed, on_change=proxy.reporter.connections.set, on_full=proxy.full)


def run(
    proxy: Proxy,
    listener: socket.socket,
    *,
    drain_s: float = DRAIN_S,
    limits: ConnectionLimits | None = None,
    tls: TlsListener | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    options: dict[str, Any] = {
        "loop": "uvloop",
        "http": protocol_with(limits or connection_limits(proxy)),
        "ws": "none",
        "lifespan": "on",
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": int(drain_s) + 4,
        "log_config": None,
    }
    server = Server(uvicorn.Config(proxy.asgi, **options), proxy, drain_s, tls)
    server.run(sockets=[listener])
