"""systemd's side of sd_notify(3) for services of our own supervisor: whether one still gives signs of life.

The address is abstract (unix(7)): it leaves no file behind, and a folder's length does not matter.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable


class Watchdog:
    """One service's. silent_s counts from its first sign: a service that never gave one is not watched."""

    def __init__(self, watchdog_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._watchdog_s = watchdog_s
        self._clock = clock
        self._sign_at: float | None = None
        self._name = f"llmstack-{os.getpid()}-{secrets.token_hex(8)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + self._name)
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": "@" + self._name, "WATCHDOG_USEC": str(round(self._watchdog_s * 1e6))}

    @property
    def expired(self) -> bool:
        return self._sign_at is not None and self._clock() - self._sign_at > self._watchdog_s

    def started(self) -> None:
        """Another process: it has time until its first sign."""
        self._sign_at = None

    def _receive(self) -> None:
        try:
            words = self._socket.recv(4096)
        except OSError:
            return
        if b"WATCHDOG=1" in words.splitlines():
            self._sign_at = self._clock()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
