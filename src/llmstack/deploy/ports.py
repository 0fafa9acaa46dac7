"""Where a stack may listen: who holds a TCP port, which addresses are here. What cannot be is refused before anything
is written, a port in use by the name of its owner."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from llmstack.commands import again, command_line
from llmstack.errors import BadInput, MissingPart


@dataclass(frozen=True, slots=True)
class WantedPort:
    """what: the service that needs it. flag: the option that chooses another."""

    what: str
    host: str
    port: int
    flag: str


def check_free(needs: Sequence[WantedPort], *, ours: Collection[int], alone: bool = False) -> None:
    """Raises MissingPart for ports that are taken by a process whose pid is not in `ours`: all of them at once."""
    problems, refused, others = [], [], []
    chosen = [one.port for one in needs]
    for one in needs:
        problem = _bind_problem(one.host, one.port)
        if problem is None:
            continue
        pid, name = owner(one.port) if problem == errno.EADDRINUSE else (None, "")
        if pid is not None and pid in ours:
            continue
        problems.append(problem)
        refused.append(
            _refused(one, problem, f"{name} (pid {pid})" if pid is not None else "a process of another user")
        )
        free = next_free(one.host, max(one.port, 1023), chosen)
        chosen.append(free)
        others += [one.flag, str(free)]
    if refused:
        stop = "stop it, or choose another port: " if set(problems) == {errno.EADDRINUSE} else ""
        retry = again("up", *others)
        if alone and "--proxy-only" not in retry:  # another command was typed, which starts the proxy on its way
            retry = command_line("up", "--proxy-only", *others)
        raise MissingPart("; ".join(refused), next=f"{stop}{retry}")


def _refused(one: WantedPort, problem: int, who: str) -> str:
    if problem == errno.EADDRINUSE:
        return f"port {one.port}, which the {one.what} needs, is in use by {who}"
    why = "ports below 1024 need root" if problem == errno.EACCES else os.strerror(problem)
    return f"the {one.what} cannot listen on {one.host}:{one.port}: {why}"


def check_address(host: str) -> None:
    """Raises BadInput for what is no address of this machine."""
    problem = errno.EINVAL
    if _is_address(host):
        of_bind = _bind_problem(host, 0)
        if of_bind is None:
            return
        problem = of_bind
    what = "is no address of this machine" if _is_address(host) else "is no IP address"
    unusual = problem not in (errno.EADDRNOTAVAIL, errno.EINVAL)
    raise BadInput(
        f"{host}: nothing can listen there: {os.strerror(problem)}" if unusual else f"{host} {what}",
        why=f"this machine has {', '.join(addresses())}",
        next=f"{again('up', '--listen', '0.0.0.0')}   listens on all of them",
    )


def addresses() -> tuple[str, ...]:
    """Of this machine's interfaces, loopback first; without those that hold on one link only."""
    import psutil

    every = [
        ipaddress.ip_address(entry.address)
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6) and "%" not in entry.address
    ]
    return tuple(str(one) for one in sorted(dict.fromkeys(every), key=lambda one: (not one.is_loopback, one.version)))


def next_free(host: str, port: int, chosen: Collection[int] = ()) -> int:
    """The first port above this one that nobody holds, and that is not in `chosen`; the next where a hundred are."""
    above = range(port + 1, min(port + 101, 65536))
    return next((one for one in above if one not in chosen and is_free(host, one)), port + 1)


def is_free(host: str, port: int) -> bool:
    return _bind_problem(host, port) != errno.EADDRINUSE


def _is_address(host: str) -> bool:
    try:
        return host == "localhost" or bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _bind_problem(host: str, port: int) -> int | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno or errno.EINVAL
    return None


def owner(port: int) -> tuple[int | None, str]:
    """(pid, program name) of the listener; (None, "") when the system does not tell this user."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        return None, ""
    for connection in connections:
        address: tuple[object, ...] = tuple(connection.laddr or ())
        if connection.status == psutil.CONN_LISTEN and address[1:2] == (port,) and connection.pid:
            try:
                return connection.pid, psutil.Process(connection.pid).name()
            except psutil.NoSuchProcess:
                return connection.pid, "a process that has just ended"
    return None, ""
