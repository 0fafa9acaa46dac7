"""Whether work grows in step with its input: CPU time at one size against that at four times the size."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

TIMES = 4
ALLOWED = 9.0  # linear is 4, quadratic 16
_LEAST_S = 0.004  # below that a figure says nothing


def cpu_s(work: Callable[[Any], object], make: Callable[[int], Any], size: int, tries: int = 2) -> float:
    """The shortest of a few: CPU time of this thread, so that a busy machine counts for little."""
    times = []
    for _ in range(tries):
        value = make(size)
        gc.collect()
        begun = time.thread_time()
        work(value)
        times.append(time.thread_time() - begun)
        if times[-1] > 2.0:
            break
    return min(times)


def assert_linear(
    make: Callable[[int], Any], work: Callable[[Any], object], size: int, most: int = TIMES * 400_000
) -> None:
    """make(size): an input of that size. The sizes grow until the smaller one takes long enough to be measured, the
    larger one never above `most`, from which on it would be refused."""
    small = cpu_s(work, make, size)
    while small < _LEAST_S and 3 * TIMES * size <= most:
        size *= 3
        small = cpu_s(work, make, size)
    large = cpu_s(work, make, TIMES * size)
    assert large < ALLOWED * max(small, _LEAST_S / 4), (
        f"{TIMES} times the input takes {large / small:.1f} times as long"
    )
