"""What the guard of the unit tests refuses, and that it lets go again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable

import pytest

from support.world import out_of_reach

ACTS: dict[str, Callable[[], object]] = {
    "opened a socket": socket.socket,
    "started a process": lambda: subprocess.run(["true"]),
    "called os.fork": lambda: os.fork(),  # looked up when it is called
    "slept 1 s": lambda: time.sleep(1),
}


@pytest.mark.parametrize("words", ACTS)
def test_it_is_refused_and_remembered_even_where_the_code_goes_on(words: str) -> None:
    with out_of_reach() as guard:
        with contextlib.suppress(BaseException):
            ACTS[words]()
        assert guard.touched == [words]


def test_an_event_loop_may_run_and_afterwards_everything_may() -> None:
    with out_of_reach() as guard:
        asyncio.run(asyncio.sleep(0))
    assert guard.touched == []
    assert subprocess.run(["true"]).returncode == 0
