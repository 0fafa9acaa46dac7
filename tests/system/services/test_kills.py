"""The stack is killed under load, by seed, and is ready again: a few rounds in every run, many with --long."""

from __future__ import annotations

import pytest

from benchmarks.soak import growth, kills

pytestmark = pytest.mark.timeout(7200)  # with --long

ROUNDS, LONG_ROUNDS = 3, 40
LONG_MINUTES = 20.0
MIB_PER_HOUR, EACH_PER_HOUR = 30.0, 30.0


def test_every_round_of_kills_ends_ready_with_nothing_torn_and_nothing_left(pytestconfig: pytest.Config) -> None:
    """Signals that stop take a minute each to be noticed: with --long."""
    every = bool(pytestconfig.option.long)
    rounds = kills.play(LONG_ROUNDS if every else ROUNDS, seed=7, stops=every)
    assert [one for one in rounds if one.wrong] == []


def test_under_load_for_twenty_minutes_nothing_grows(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.option.long:
        assert growth.slope([0, 1, 2], [5, 7, 9]) == 2 and growth.slope([1], [3]) == 0
        return
    figures = growth.measure(LONG_MINUTES, seed=7).figures()
    assert figures["broken"] == []
    assert figures["resident_mib_per_hour"] < MIB_PER_HOUR, figures
    assert figures["descriptors_per_hour"] < EACH_PER_HOUR and figures["tasks_per_hour"] < EACH_PER_HOUR, figures
