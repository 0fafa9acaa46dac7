"""How much a run measures, and the time that it may take."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass

from llmstack.bench.depths import Effort


class Mode(enum.StrEnum):
    QUICK = "quick"
    NORMAL = "normal"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class ModeSettings:
    """depths: marks in tokens, -1 for `to the context's end`; patience_s: of waiting for quiet.

    cold_tokens: the size of the first prompt that is timed through the proxy. total_s: of everything; what does not
    fit takes fewer samples, is made smaller or is left out, and the run says so.
    """

    depths: tuple[int, ...]
    effort: Effort
    patience_s: float
    warm: int
    rounds: int
    cold_tokens: int
    cold_s: float
    total_s: float


SETTINGS = {
    Mode.QUICK: ModeSettings((0, 2048), Effort(4, 32, 28.0), 6.0, 2, 9, 6_000, 6.0, 46.0),
    Mode.NORMAL: ModeSettings((0, 2048, 8192, 16384), Effort(5, 64, 150.0), 20.0, 3, 15, 20_000, 90.0, 600.0),
    Mode.FULL: ModeSettings(
        (0, 2048, 8192, 16384, 32768, -1), Effort(7, 128, 1500.0), 60.0, 5, 31, 20_000, 600.0, 7200.0
    ),
}


class Clock:
    """What is left of the time that a run may take."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.perf_counter() + seconds

    @property
    def left_s(self) -> float:
        return self._deadline - time.perf_counter()
