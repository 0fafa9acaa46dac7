"""Who listens where our services should: a key or the token is sent to nobody else.

While the stack is down any program may take its ports, and answer as if it were the proxy or the server.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from llmstack.commands import command_line
from llmstack.deploy.ports import is_free, owner
from llmstack.deploy.supervisors import supervisor_for
from llmstack.detect.held import family
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.supervisor import Supervisor


def stranger(supervisor: Supervisor, url: str) -> str | None:
    """Who listens there and is none of ours, in words; None for a service, a child of this command, or nobody."""
    port = urlsplit(url).port
    if port is None:
        return None
    pid, name = owner(port)
    if pid is None:
        return None if not name and not _is_taken(url) else "a process of another user"
    running = {status.pid for status in supervisor.status().values() if status.pid}
    return None if pid in family({os.getpid(), *running}) else f"{name} (pid {pid})"


def refuse_stranger(home: Home, url: str, service: str) -> None:
    """Raises NotSo when another program answers in the place of this service."""
    who = stranger(supervisor_for(home), url)
    if who is not None:
        raise not_ours(service, url, who)


def not_ours(service: str, url: str, who: str) -> NotSo:
    return NotSo(
        f"{who} answers at {url}, and is not the stack's {service}",
        why="it took the port while the stack was down; no key was sent to it",
        next=f"stop it, then: {command_line('restart')}",
    )


def _is_taken(url: str) -> bool:
    parts = urlsplit(url)
    return not is_free(parts.hostname or "127.0.0.1", parts.port or 0)
