"""The wait for something that another process does: looked at again and again until it is so, or too late."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# A slow disk: the deadline for loading a model is generous, since a death is noticed at once.
LOAD_MIB_PER_S = 60.0
POLL_S = 0.05


def wait_until(probe: Callable[[], T | None], deadline_s: float, *, every_s: float = POLL_S) -> T | None:
    """The first value of `probe` that is not None; None when it gave none in deadline_s seconds. It may raise."""
    deadline = time.monotonic() + deadline_s
    while (value := probe()) is None and time.monotonic() < deadline:
        time.sleep(every_s)
    return value


def load_s(model_bytes: int) -> float:
    """Seconds that reading a model may take."""
    return model_bytes / (1 << 20) / LOAD_MIB_PER_S
