"""Whether somebody listens where a profile's requests will go: said before Claude Code waits for it for minutes."""

from __future__ import annotations

import os
import socket
import urllib.request
from urllib.parse import urlsplit

from llmstack.client.environment import LOOPBACK
from llmstack.client.profile import environment_of, leads_to_stack, profile_of, routing
from llmstack.commands import command_line
from llmstack.paths import Home

CONNECT_S = 3.0
_PORTS = {"http": 80, "https": 443}


def unreachable(home: Home, profile: str) -> str:
    """A sentence where nobody does; empty where somebody does, where another would answer instead, and where an HTTP
    proxy stands on the way."""
    name, url = _goes_to(home, profile)
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme)
    if not parts.hostname or port is None:
        return ""
    if parts.hostname not in LOOPBACK and urllib.request.getproxies().get(parts.scheme):
        return ""
    try:
        socket.create_connection((parts.hostname, port), CONNECT_S).close()
    except OSError as error:
        why = error.strerror or type(error).__name__
        tries = f"; {command_line('upstream', 'test', name)} looks closer" if name else ""
        where = f"{parts.scheme}://{parts.hostname}:{port}"
        return f"nothing answers at {where} ({why}): Claude Code will ask again for minutes{tries}"
    return ""


def _goes_to(home: Home, name: str) -> tuple[str, str]:
    """The upstream's name and its address; "" for what is not looked at."""
    if not leads_to_stack(home, name):
        return "", environment_of(home, name, os.environ).variables.get("ANTHROPIC_BASE_URL", "")
    choice = routing(home).choose(profile_of(home, name).model or "")
    if choice is None or len(choice.targets) != 1:
        return "", ""
    target = choice.targets[0]
    return target.name, target.base_url or ""
