"""How far a predicted speed may be off: a factor for each kind of work, from machines that were not fitted to.

The published points of tests/support/planner/points.toml, each machine left out of the fit in turn
(`python -m benchmarks.planner.leave_out`): four of five lie within the factor of their kind. A machine whose own rates
were measured has the error of that fit instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.hardware import Hardware
from llmstack.plan.assignment import Assignment
from llmstack.plan.cards import card_of
from llmstack.plan.facts import ModelFacts

DECODE = {"card": 1.25, "mixed": 1.35, "threads": 1.5, "guessing": 1.6}
PREFILL = {"card": 1.25, "mixed": 1.45, "threads": 1.5}
UNKNOWN_CARD = 1.3  # times wider where a card's figures were guessed
LEAST_ERROR = 0.15  # of a plan on a calibrated machine: models differ from those that were measured
WIDE = 1.25  # from this factor on a figure is shown with its range


@dataclass(frozen=True, slots=True)
class Spread:
    """Factors: the measured speed is expected between predicted / factor and predicted * factor."""

    prefill: float
    decode: float


def measured_error(hardware: Hardware) -> float | None:
    """Of the fit to this machine's own measurements, as a share; None where nothing was measured."""
    if hardware.measured is None or hardware.measured.error is None:
        return None
    return max(LEAST_ERROR, hardware.measured.error)


def spread(facts: ModelFacts, hardware: Hardware, a: Assignment) -> Spread:
    error = measured_error(hardware)
    if error is not None:
        return Spread(1 + error, 1 + error)
    where = _where(facts, hardware, a)
    wider = UNKNOWN_CARD if where != "threads" and not all(card_of(d).known for d in hardware.devices) else 1.0
    decode = DECODE["guessing" if a.draft_max else where]
    return Spread(PREFILL[where] * wider, decode * wider)


def bounds(speed: float, factor: float) -> tuple[float, float]:
    return speed / factor, speed * factor


def _where(facts: ModelFacts, hardware: Hardware, a: Assignment) -> str:
    if not hardware.devices or not a.ngl:
        return "threads"
    return "card" if a.ngl > facts.n_layer_all and not (a.ncmoe or a.ncffn or a.nkvo) else "mixed"
