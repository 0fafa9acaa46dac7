"""Who holds a TCP port. A port in use is refused by the name of its owner before anything is written."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection

from llmstack.commands import command_line
from llmstack.errors import MissingPart


def check_free(host: str, port: int, *, what: str, flag: str, ours: Collection[int]) -> None:
    """Raises MissingPart when the port is taken by a process whose pid is not in `ours`."""
    problem = _bind_problem(host, port)
    if problem is None:
        return
    if problem == errno.EADDRINUSE:
        pid, name = owner(port)
        if pid is not None and pid in ours:
            return
        who = f"{name} (pid {pid})" if pid is not None else "a process of another user"
        raise MissingPart(
            f"port {port}, which the {what} needs, is in use by {who}",
            next=f"stop it, or choose another port: {command_line('up', flag, port + 1)}",
        )
    why = {errno.EACCES: "ports below 1024 need root", errno.EADDRNOTAVAIL: f"{host} is no address of this machine"}
    raise MissingPart(
        f"the {what} cannot listen on {host}:{port}",
        why=why.get(problem, errno.errorcode.get(problem, str(problem))),
        next=command_line("up", flag, "PORT"),
    )


def is_free(host: str, port: int) -> bool:
    return _bind_problem(host, port) != errno.EADDRINUSE


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
