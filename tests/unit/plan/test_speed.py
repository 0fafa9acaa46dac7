"""The speed model against published figures (tests/planning/points.toml)."""

from __future__ import annotations

import statistics

from llmstack.plan import Workload
from planning.points import cases, errors_by_point


def test_the_thirteen_published_points_are_met_within_15_percent_in_the_median() -> None:
    found = list(cases())
    errors = errors_by_point(found)
    assert sorted(errors) == list(range(1, 14))
    assert statistics.median(errors.values()) <= 0.15
    assert statistics.median(abs(case.error) for case in found) <= 0.15


def test_no_published_setting_is_missed_by_more_than_a_half() -> None:
    assert max((abs(case.error), case.what, case.value) for case in cases())[0] <= 0.5


def test_vram_of_the_anchors_is_met_within_5_percent() -> None:
    assert all(abs(case.error) <= 0.05 for case in cases() if case.metric == "vram")


def test_the_work_is_shortened_to_the_context() -> None:
    assert Workload().within(65536) == Workload()
    small = Workload().within(8192)
    assert small.cold_tokens + small.output_tokens <= 8192
    assert small.depth + small.turn_tokens + small.output_tokens <= 8192
