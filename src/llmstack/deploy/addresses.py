"""Where a stack will listen: as it was asked for, else as it is deployed. What cannot be is refused early."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from llmstack import certificate, stackfile
from llmstack.access.book import read_book
from llmstack.commands import again, command_line, repeated
from llmstack.deploy import ports
from llmstack.deploy.planning import UpRequest
from llmstack.deploy.services import Addresses
from llmstack.errors import BadInput
from llmstack.paths import Home
from llmstack.stackfile import SERVER_PORT, TLS_PORT, ProxyEntry, TlsEntry


def addresses_of(home: Home, request: UpRequest) -> Addresses:
    """As requested, else as deployed, else the defaults. Raises BadInput for what cannot be."""
    deployed = stackfile.read(home)
    before = stackfile.read_proxy(home) or ProxyEntry()
    port = request.proxy_port or before.port
    server_port = request.server_port or (deployed.server.port if deployed is not None else SERVER_PORT)
    if port == server_port:
        raise BadInput(
            f"the proxy and the server need two ports, and both would have {port}",
            next=again("up", "--port", port, "--server-port", ports.next_free("127.0.0.1", port)),
        )
    allow_hosts = before.allow_hosts if request.allow_hosts is None else request.allow_hosts
    if request.proxy_host is not None:
        ports.check_address(request.proxy_host)
    host = request.proxy_host or (before.tls.host if before.tls is not None else before.host)
    proxy = ProxyEntry(host, port, allow_hosts)
    if proxy.is_open:
        if request.proxy_host is not None:
            require_key(home)
        proxy = _with_tls(proxy, request, before.tls, {port, server_port})
    elif request.tls_files:
        raise BadInput(
            "a certificate is for other machines, and the proxy listens on this one alone",
            next=again("up", "--listen", "0.0.0.0"),
        )
    return Addresses(proxy, server_port=server_port)


def require_key(home: Home) -> None:
    """Raises BadInput where nobody else has a key: they would all use the owner's token, which nobody can take back."""
    if not read_book(home).active(time.time()):
        raise BadInput(
            "nobody else has a key, and the stack's own token is not for others",
            why="whoever has it can do all that you can, and it cannot be taken back from one of them",
            next=f"{command_line('key', 'add', 'NAME')}   then: {repeated()}",
        )


def wanted_ports(proxy: ProxyEntry) -> Sequence[ports.WantedPort]:
    plain = ports.WantedPort("proxy", proxy.host, proxy.port, "--port")
    tls = proxy.tls
    return (plain, ports.WantedPort("proxy", tls.host, tls.port, "--tls-port")) if tls is not None else (plain,)


def _with_tls(proxy: ProxyEntry, request: UpRequest, before: TlsEntry | None, others: set[int]) -> ProxyEntry:
    """With a certificate the plain port stays on this machine, where nobody needs one; others get a port with TLS."""
    if request.tls_files == ("", ""):
        return proxy
    if request.tls_files is not None:
        cert, key = (str(Path(name).expanduser().absolute()) for name in request.tls_files)
    elif before is not None:
        cert, key = before.cert, before.key
    else:
        return proxy
    read = certificate.examine(cert, key)
    if read.not_now and request.tls_files is not None:
        another = again("up", "--tls-cert", "FILE", "--tls-key", "FILE")
        raise BadInput(f"the certificate {cert} {read.not_now}", next=another)
    port = request.tls_port or (before.port if before is not None else TLS_PORT)
    if port in others:
        free = next(number for number in range(TLS_PORT, 65536) if number not in others)
        raise BadInput(f"port {port} is the proxy's or the server's already", next=again("up", "--tls-port", free))
    return msgspec.structs.replace(proxy, host="127.0.0.1", tls=TlsEntry(proxy.host, port, cert, key))
