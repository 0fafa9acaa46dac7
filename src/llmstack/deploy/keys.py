"""The two secrets of a stack: the token that clients send, and the key between the proxy and its server."""

from __future__ import annotations

import secrets
from pathlib import Path

from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.paths import Home, write_private


def ensure(home: Home) -> None:
    """Makes what is missing (0600). Raises BadInput for a secret that others can read."""
    for path, prefix in ((home.token, "sk-llmstack-"), (home.server_key, "")):
        if not path.exists():
            write_private(path, f"{prefix}{secrets.token_urlsafe(32)}\n".encode())
        _read(path)


def token(home: Home) -> str:
    """The clients' token. Raises BadInput when there is none yet or when others can read it."""
    return _read(home.token)


def _read(path: Path) -> str:
    try:
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        raise BadInput(
            "there is no token yet", why="it is made at the first `up`", next=command_line("up", "--proxy-only")
        ) from None
    if mode & 0o077:
        raise BadInput(
            f"{path} can be read by others (mode {mode:o})",
            why="whoever reads it can use your stack",
            next=f"rm '{path}' && {command_line('up')}   makes a new one",
        )
    return path.read_text().strip()
