"""Takes samples while the machine is quiet, and says how quiet it was.

Other programs can only slow a measurement down: with the compute threads of an engine waiting for each other, one
busy program halves it or worse. So each sample notes what share of all processors others used, waits a little
for a quiet moment, and a sample from a busy one is taken again while time is left. The look for quiet runs a fixed
piece of work, whose pace tells a machine that is slow itself from a stack that got slower.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from llmstack.detect.load import Watch
from llmstack.detect.pace import pace
from llmstack.judge import BUSY, Better, Metric, Sample, metric

_SAMPLE_S = 0.3  # processor clocks tick every 10 ms: shorter samples are taken together
_LOOK_S = 0.1
_SETTLED = 0.03  # three clean samples this close need no fourth


@dataclass(frozen=True, slots=True)
class Work:
    """What one call did: units (tokens) and seconds, from the engine's own clock where it has one."""

    units: float
    seconds: float


Pace = Callable[[float], float | None]  # of seconds: pieces/s of a fixed piece of work


def beside(threads: int = 0) -> Pace:
    """The pace on as many cores as the engine computes on (0: on all)."""
    import psutil

    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return partial(pace, min(threads or cores, cores))


def unpaced(seconds: float) -> None:
    """For an engine whose speed the processors' pace says nothing about: on devices alone."""
    time.sleep(seconds)


class Sampler:
    """patience_s: what all waiting for quiet may cost together; beyond it there is one look before each sample."""

    def __init__(self, pids: Iterable[int], *, patience_s: float, pace: Pace | None = None) -> None:
        self.watch = Watch(pids)
        self._patience_s = patience_s
        self._pace = pace or beside()

    def look(self, limit_s: float = 3.0) -> float | None:
        """Returns once others use little, or when patience ends; the machine's pace then. The watch starts anew."""
        deadline = time.perf_counter() + min(limit_s, self._patience_s)
        while True:
            began = time.perf_counter()
            self.watch.restart()
            machine_pace = self._pace(_LOOK_S)
            if self.watch.others() <= BUSY or time.perf_counter() >= deadline:
                self.watch.restart()
                return machine_pace
            self._patience_s -= time.perf_counter() - began

    def take(self, work: Callable[[], Work]) -> tuple[Work, float, float | None]:
        """One sample of at least _SAMPLE_S, the load by others during it, and the machine's pace before it."""
        machine_pace = self.look()
        began = time.perf_counter()
        units = seconds = 0.0
        while not units or time.perf_counter() - began < _SAMPLE_S:
            done = work()
            units, seconds = units + done.units, seconds + done.seconds
        return Work(units, max(seconds, 1e-9)), self.watch.others(), machine_pace

    def rate(self, name: str, work: Callable[[], Work], *, repeats: int, seconds: float) -> Metric:
        """Units per second (tokens/s): `repeats` clean samples, fewer when they agree or time is up (at least one)."""
        return self._metric(name, "tokens/s", Better.HIGHER, work, lambda w: w.units / w.seconds, repeats, seconds)

    def duration(self, name: str, work: Callable[[], Work], *, repeats: int, seconds: float, unit: str = "s") -> Metric:
        scale = 1000.0 if unit == "ms" else 1.0
        return self._metric(name, unit, Better.LOWER, work, lambda w: w.seconds / w.units * scale, repeats, seconds)

    def _metric(
        self,
        name: str,
        unit: str,
        better: Better,
        work: Callable[[], Work],
        value: Callable[[Work], float],
        repeats: int,
        seconds: float,
    ) -> Metric:
        taken: list[Sample] = []
        deadline = time.perf_counter() + seconds
        while len(taken) < 3 * repeats:
            done, load, pace = self.take(work)
            taken.append(Sample(value(done), load, pace))
            clean = [sample.value for sample in taken if sample.load <= BUSY]
            if len(clean) >= repeats or time.perf_counter() > deadline:
                break
            if len(clean) >= 3 and (max(clean) - min(clean)) / statistics.median(clean) < _SETTLED:
                break
        return metric(name, unit, better, taken)
