"""Timings for calibration: one for each work, whatever the machine's pace was when it was taken."""

from __future__ import annotations

import pytest

from llmstack.bench.calibrate import Timing, even
from llmstack.plan.assignment import Assignment
from llmstack.plan.calibrate import Observation
from support.planner.draws import facts

CPU = Assignment(ctx=8192, ngl=0)


def took(seconds: float, pace: float | None, shape: str = "llama-8b", *, decode: bool = False) -> Timing:
    return Timing(Observation(facts(shape), CPU, decode, 1 if decode else 512, 0, seconds), pace)


def test_what_was_measured_on_a_slow_and_on_a_quick_machine_is_brought_to_the_middle_of_their_paces() -> None:
    [one, other] = even([took(1.0, 400.0), took(3.0, 200.0, "qwen3-8b")])
    assert one.seconds == pytest.approx(1.0 * 400 / 300) and other.seconds == pytest.approx(3.0 * 200 / 300)


def test_a_work_that_was_timed_twice_counts_once_by_its_median() -> None:
    [one] = even([took(1.0, 400.0), took(2.0, 200.0)])
    assert one.seconds == pytest.approx(4 / 3)
    assert len(even([took(1.0, 400.0), took(0.1, 400.0, decode=True)])) == 2


def test_without_a_pace_timings_stay_as_they_are() -> None:
    assert [o.seconds for o in even([took(1.0, None), took(3.0, None)])] == [2.0]
