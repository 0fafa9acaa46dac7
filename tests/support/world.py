"""The guard of the unit tests: a test that opens a socket, starts a process or sleeps has failed."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

_FORKS = ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen")


class Guard:
    """touched: what the test did, in words; a failure inside code that swallows it is still seen there."""

    def __init__(self) -> None:
        self.touched: list[str] = []

    def refuse(self, act: str) -> NoReturn:
        self.touched.append(act)
        pytest.fail(f"a unit test may not do this: it {act}. Tests that must are in tests/integration.")


@contextmanager
def out_of_reach() -> Iterator[Guard]:
    guard = Guard()
    patch = pytest.MonkeyPatch()
    make_socket, sleep = socket.socket.__init__, time.sleep

    def new_socket(self: socket.socket, *arguments: Any, **named: Any) -> None:
        # The pair that every asyncio loop wakes itself with comes from socketpair, which hands over open descriptors.
        if named.get("fileno", arguments[3] if len(arguments) > 3 else None) is None:
            guard.refuse("opened a socket")
        make_socket(self, *arguments, **named)

    def refused(act: str) -> Callable[..., NoReturn]:
        return lambda *arguments, **named: guard.refuse(act)

    def nap(seconds: float) -> None:
        if seconds > 0:
            guard.refuse(f"slept {seconds:g} s")
        sleep(seconds)

    patch.setattr(socket.socket, "__init__", new_socket)
    patch.setattr(subprocess.Popen, "__init__", refused("started a process"))
    for name in _FORKS:
        patch.setattr(os, name, refused(f"called os.{name}"))
    patch.setattr(time, "sleep", nap)
    try:
        yield guard
    finally:
        patch.undo()
