"""Verdicts: a change is called only outside the spread, and never while the machine was busy."""

from __future__ import annotations

import random

import pytest

from llmstack.judge import (
    BUSY,
    Better,
    Change,
    Circumstances,
    Metric,
    compare,
    judge,
    judge_health,
    metric,
)


def speed(*values: float, name: str = "prefill at 0", load: float = 0.0) -> Metric:
    return metric(name, "tokens/s", Better.HIGHER, values, [load] * len(values))


def change(before: list[Metric], after: Metric) -> Change:
    [row] = compare([{m.name: m} for m in before], {after.name: after}).rows
    return row.change


def test_half_the_speed_is_a_regression() -> None:
    assert change([speed(100, 102, 98, 101)], speed(50, 52, 49, 51)) is Change.SLOWER


def test_samples_that_overlap_are_no_regression_however_far_the_medians() -> None:
    assert change([speed(100, 140, 60, 62)], speed(60, 63, 61, 66)) is Change.SAME


def test_less_than_the_tolerance_is_no_regression_however_narrow_the_spread() -> None:
    assert change([speed(100, 100.1, 100.2)], speed(90, 90.1, 90.2)) is Change.SAME


def test_a_slow_run_on_a_busy_machine_is_not_judged() -> None:
    assert change([speed(100, 101, 102)], speed(40, 41, 42, load=0.6)) is Change.UNSURE


def test_a_baseline_that_was_measured_while_busy_gives_way_to_quiet_ones() -> None:
    busy, quiet = speed(30, 31, 32, load=0.7), speed(100, 101, 102)
    assert change([quiet, busy], speed(50, 51, 52)) is Change.SLOWER


def test_a_longer_first_token_is_a_regression_and_a_shorter_one_is_not() -> None:
    def ttft(*values: float) -> Metric:
        return metric("first token cold", "s", Better.LOWER, values)

    assert change([ttft(1.0, 1.02)], ttft(2.0, 2.1)) is Change.SLOWER
    assert change([ttft(2.0, 2.1)], ttft(1.0, 1.02)) is Change.FASTER


@pytest.mark.parametrize(("name", "unit", "ms"), [("proxy overhead", "ms", 1.0), ("first token warm", "s", 0.001)])
def test_a_few_milliseconds_of_a_first_token_are_no_regression(name: str, unit: str, ms: float) -> None:
    def took(*values: float) -> Metric:
        return metric(name, unit, Better.LOWER, [value * ms for value in values])

    assert change([took(1.0, 1.1)], took(3.0, 3.1)) is Change.SAME
    assert change([took(1.0, 1.1)], took(30.0, 31.0)) is Change.SLOWER


def test_one_or_two_runs_before_say_little_about_how_a_machine_drifts() -> None:
    runs = [speed(100, 101, 102), speed(101, 102, 103), speed(99, 100, 101)]
    a_fifth_slower, halved = speed(80, 81, 82), speed(50, 51, 52)
    assert change(runs, a_fifth_slower) is Change.SLOWER
    assert change(runs[:2], a_fifth_slower) is Change.SAME
    assert change(runs[:1], halved) is Change.SLOWER


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.10])
def test_in_300_pairs_of_equal_noisy_runs_under_one_in_a_hundred_is_called_slower(noise: float) -> None:
    rng = random.Random(7)

    def run() -> Metric:
        return speed(*(rng.gauss(100, 100 * noise) for _ in range(5)))

    assert sum(change([run() for _ in range(3)], run()) is Change.SLOWER for _ in range(300)) < 3


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.10])
def test_half_the_speed_is_found_in_every_one_of_300_noisy_pairs(noise: float) -> None:
    rng = random.Random(8)

    def run(mean: float) -> Metric:
        return speed(*(rng.gauss(mean, mean * noise) for _ in range(5)))

    assert all(change([run(100) for _ in range(3)], run(52)) is Change.SLOWER for _ in range(300))


def test_busy_samples_do_not_count_where_there_are_quiet_ones() -> None:
    found = metric("x", "tokens/s", Better.HIGHER, [100, 20, 101, 30], [0.0, 0.9, 0.05, 0.8])
    assert (found.median, found.n, found.busy) == (100.5, 2, False)


def test_without_quiet_samples_the_quietest_count_and_the_metric_says_so() -> None:
    found = metric("x", "tokens/s", Better.HIGHER, [90, 20, 30], [0.2, 0.9, 0.8])
    assert found.busy and found.load > BUSY


def test_a_plan_missed_by_more_than_its_error_is_a_finding_with_both_numbers() -> None:
    verdict = judge({"prefill at 0": speed(210, 211, 212)}, {"prefill at 0": 480.0}, 0.2)
    assert not verdict.ok
    assert "211" in verdict.findings[0] and "480" in verdict.findings[0] and "±20%" in verdict.findings[0]


def test_a_plan_met_within_its_error_is_good() -> None:
    assert judge({"prefill at 0": speed(400, 410, 420)}, {"prefill at 0": 480.0}, 0.2).ok


def test_a_cache_that_does_not_hold_is_a_finding() -> None:
    hits = metric("cache hit ratio", "of the prompt", Better.HIGHER, [0.4, 0.5])
    assert "cache" in judge({hits.name: hits}, {}, 0.2).findings[0]


def test_a_busy_machine_turns_a_missed_plan_into_a_note() -> None:
    verdict = judge({"prefill at 0": speed(10, 11, 12, load=0.8)}, {"prefill at 0": 480.0}, 0.2)
    assert verdict.ok and any("other programs" in note for note in verdict.notes)


def health(around: Circumstances) -> str:
    [sentence] = judge_health({"prefill": 210.0}, {"prefill": 480.0}, 0.3, around)
    return sentence


def test_weights_read_from_disk_are_the_first_reason() -> None:
    around = Circumstances(
        disk_mib=3174, load=0.9, ram_free_mib=500, ram_planned_mib=12000, ram_used_mib=9452, calibrated=True
    )
    assert health(around) == (
        "prefill 210 tokens/s, planned 480: 3.1 GiB of weights were read from disk meanwhile; RAM is short by 2.0 GiB"
    )


@pytest.mark.parametrize(
    ("around", "reason"),
    [
        (Circumstances(load=0.8), "other programs used 80%"),
        (Circumstances(), "llmstack bench --calibrate"),
        (Circumstances(calibrated=True), "llmstack bench looks closer"),
    ],
)
def test_each_reason_follows_from_its_circumstance(around: Circumstances, reason: str) -> None:
    assert reason in health(around)


def test_memory_over_plan_is_told_with_both_figures() -> None:
    around = Circumstances(ram_planned_mib=4096, ram_used_mib=8192)
    assert judge_health({}, {}, 0.3, around) == (
        "the server holds 8.0 GiB of RAM, planned 4.0 GiB: a smaller --ctx or -cram would give some back",
    )


def test_a_speed_within_the_plans_error_says_nothing() -> None:
    assert judge_health({"prefill": 400.0}, {"prefill": 480.0}, 0.3, Circumstances()) == ()
