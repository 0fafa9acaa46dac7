"""Waiting for something to become so, and ports that nobody listens on."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], what: str = "it came to be", within_s: float = 30.0) -> None:
    """Returns once condition() is true; fails when it is not in time, and says `what` should have been so."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"after {within_s:g} s still not so: {what}"
        time.sleep(0.03)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
