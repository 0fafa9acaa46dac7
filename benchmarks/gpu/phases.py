"""The phases in their order. Another one is a row here: a name, what it shows, and the cells that it measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.gpu import memory, models, speed, stack
from benchmarks.gpu.bed import Bed
from benchmarks.gpu.results import Cell


@dataclass(frozen=True, slots=True)
class Phase:
    name: str
    what: str
    cells: Callable[[Bed], Iterable[Cell]]


PHASES = (
    Phase("models", "files of real shapes, with made-up weights", models.cells),
    Phase("memory", "the plan's memory against what the card says", memory.cells),
    Phase("speed", "the plan's speeds, beside --fit's choice and an article's", speed.cells),
    Phase("stack", "the whole stack: up, a session, a restart, tune, bench", stack.cells),
)
ALONE = {"pack": "what a bare machine lacks (needs a network)", "build": "the engine for the card that is there"}
REPORT = {"report": "all of it as one page: DIR/gpu.md"}
EVERY = (*ALONE, *(phase.name for phase in PHASES), *REPORT)
