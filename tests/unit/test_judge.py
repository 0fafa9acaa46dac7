"""Verdicts: a change is called only outside the spread, and never while the machine was busy."""

from __future__ import annotations

import random

import pytest

from llmstack.judge import (
    BUSY,
    WHOLE,
    Better,
    Change,
    Circumstances,
    Metric,
    MetricRow,
    Sample,
    compare_runs,
    judge_health,
    metric,
    verdict_on,
)


def speed(*values: float, name: str = "prefill at 0", load: float = 0.0, pace: float | None = None) -> Metric:
    return metric(name, "tokens/s", Better.HIGHER, [Sample(value, load, pace) for value in values])


def change(before: list[Metric], after: Metric) -> Change:
    [row] = compare_runs([{m.name: m} for m in before], {after.name: after}).rows
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
        return metric("first token cold", "s", Better.LOWER, [Sample(value) for value in values])

    assert change([ttft(1.0, 1.02)], ttft(2.0, 2.1)) is Change.SLOWER
    assert change([ttft(2.0, 2.1)], ttft(1.0, 1.02)) is Change.FASTER


@pytest.mark.parametrize(("name", "unit", "ms"), [("proxy overhead", "ms", 1.0), ("first token warm", "s", 0.001)])
def test_a_few_milliseconds_of_a_first_token_are_no_regression(name: str, unit: str, ms: float) -> None:
    def took(*values: float) -> Metric:
        return metric(name, unit, Better.LOWER, [Sample(value * ms) for value in values])

    assert change([took(1.0, 1.1)], took(3.0, 3.1)) is Change.SAME
    assert change([took(1.0, 1.1)], took(30.0, 31.0)) is Change.SLOWER


def test_one_or_two_runs_before_say_little_about_how_a_machine_drifts() -> None:
    runs = [speed(100, 101, 102), speed(101, 102, 103), speed(99, 100, 101)]
    a_fifth_slower, halved = speed(80, 81, 82), speed(50, 51, 52)
    assert change(runs, a_fifth_slower) is Change.SLOWER
    assert change(runs[:2], a_fifth_slower) is Change.SAME
    assert change(runs[:1], halved) is Change.SLOWER


def test_a_slow_run_on_a_machine_that_was_as_slow_itself_is_not_judged_and_says_so() -> None:
    before = [speed(100, 101, 102, pace=900)] * 3
    slow = speed(60, 61, 62, pace=560)
    assert change(before, slow) is Change.UNSURE
    found = compare_runs([{m.name: m} for m in before], {slow.name: slow})
    [note] = verdict_on({slow.name: slow}, {}, 0.2, found).notes
    assert "the machine itself ran at 62% of its earlier pace" in note and "-40%" in note


def test_more_than_the_machines_own_slowness_explains_is_a_regression() -> None:
    before = [speed(100, 101, 102, pace=900)] * 3
    assert change(before, speed(30, 31, 32, pace=600)) is Change.SLOWER
    assert change(before, speed(50, 51, 52, pace=900)) is Change.SLOWER


def test_a_faster_machine_makes_neither_a_regression_nor_a_gain() -> None:
    before = [speed(60, 61, 62, pace=560)] * 3
    assert change(before, speed(100, 101, 102, pace=900)) is Change.SAME
    assert change(before, speed(60, 61, 62, pace=900)) is Change.SAME
    assert change(before, speed(100, 101, 102, pace=560)) is Change.FASTER


def test_a_longer_first_token_on_a_machine_that_was_as_slow_itself_is_not_judged() -> None:
    def ttft(seconds: float, pace: float) -> Metric:
        return metric("first token cold", "s", Better.LOWER, [Sample(seconds, 0.0, pace)])

    assert change([ttft(1.0, 900)], ttft(1.8, 500)) is Change.UNSURE
    assert change([ttft(1.0, 900)], ttft(3.6, 500)) is Change.SLOWER


def test_runs_from_before_the_pace_was_kept_are_compared_as_they_are() -> None:
    assert change([speed(100, 101, 102)] * 3, speed(50, 51, 52, pace=400)) is Change.SLOWER


def test_what_was_measured_on_a_machine_slow_itself_is_named_so_that_no_plan_learns_from_it() -> None:
    before = {name: speed(100, 101, 102, name=name, pace=900) for name in ("prefill at 0", "decode at 0")}
    slow, as_ever = speed(80, 81, 82, pace=700), speed(98, 99, 100, name="decode at 0", pace=890)
    found = compare_runs([before] * 3, {m.name: m for m in (slow, as_ever)})
    assert found.slow_itself == {"prefill at 0"}


def test_a_plan_missed_by_what_the_machine_lost_since_is_a_note() -> None:
    slow = speed(300, 301, 302, pace=560)
    found = compare_runs([{slow.name: speed(480, 481, 482, pace=900)}] * 3, {slow.name: slow})
    verdict = verdict_on({slow.name: slow}, {slow.name: 480.0}, 0.2, found)
    assert verdict.ok and any("planned 480" in note and "62%" in note for note in verdict.notes)
    assert not verdict_on({slow.name: slow}, {slow.name: 900.0}, 0.2, found).ok


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


NAMES = ("prefill at 0", "decode at 0", "prefill at 2048", "decode at 2048")


def speeds(rng: random.Random, mean: float, noise: float, pace: float | None = None) -> dict[str, Metric]:
    """Four speeds, each with a drift of its own and little spread: as a shared machine shows them."""
    drift = {name: rng.gauss(mean, mean * noise) for name in NAMES}
    return {name: speed(*(rng.gauss(at, 1) for _ in range(4)), name=name, pace=pace) for name, at in drift.items()}


def whole(before: list[dict[str, Metric]], after: dict[str, Metric]) -> MetricRow:
    [row] = [row for row in compare_runs(before, after).rows if row.name == WHOLE]
    return row


def test_all_speeds_a_quarter_slower_are_a_regression_though_none_is_by_itself_after_two_runs() -> None:
    rng = random.Random(5)
    before, after = [speeds(rng, 100, 0.02), speeds(rng, 100, 0.02)], speeds(rng, 76, 0.02)
    found = compare_runs(before, after)
    assert [row.name for row in found.slower] == [WHOLE]
    [finding] = verdict_on(after, {}, 0.2, found).findings
    assert finding == f"slower than before: prefill and decode together: {whole(before, after).after:.0%} of before"


def test_of_300_unchanged_runs_with_a_drift_of_a_tenth_in_each_speed_two_in_a_hundred_look_slower_together() -> None:
    rng = random.Random(6)
    runs = [([speeds(rng, 100, 0.1), speeds(rng, 100, 0.1)], speeds(rng, 100, 0.1)) for _ in range(300)]
    assert sum(whole(*run).change is Change.SLOWER for run in runs) <= 6  # each of them is looked at twice more


def test_a_third_off_all_speeds_is_found_in_300_of_300_runs_with_a_drift_of_a_tenth_in_each() -> None:
    rng = random.Random(7)
    runs = [([speeds(rng, 100, 0.1), speeds(rng, 100, 0.1)], speeds(rng, 64, 0.1)) for _ in range(300)]
    assert all(whole(*run).change is Change.SLOWER for run in runs)


def test_all_speeds_slower_by_what_the_machine_lost_are_not_judged() -> None:
    rng = random.Random(8)
    before = [speeds(rng, 100, 0.02, pace=450), speeds(rng, 100, 0.02, pace=440)]
    row = whole(before, speeds(rng, 70, 0.02, pace=310))
    assert row.change is Change.UNSURE and "70% of its earlier pace" in row.reason
    assert whole(before, speeds(rng, 50, 0.02, pace=310)).change is Change.SLOWER
    assert whole(before, speeds(rng, 100, 0.02, pace=600)).change is Change.SAME


def test_half_of_the_threads_are_found_though_the_machine_was_slow_itself_before_and_is_not_now() -> None:
    rng = random.Random(10)
    slow, quick = speeds(rng, 72, 0.02, pace=345), speeds(rng, 100, 0.02, pace=460)
    row = whole([slow, quick], speeds(rng, 70, 0.02, pace=478))
    assert row.change is Change.SLOWER and row.after < 0.75
    assert whole([slow, quick], speeds(rng, 96, 0.02, pace=478)).change is Change.SAME


def test_busy_speeds_are_left_out_of_the_whole() -> None:
    rng = random.Random(9)
    before, after = [speeds(rng, 100, 0.01), speeds(rng, 100, 0.01)], speeds(rng, 100, 0.01)
    after["decode at 0"] = speed(20, 21, 22, name="decode at 0", load=0.5)
    assert abs(whole(before, after).gain) < 0.05
    alone = {name: m for name, m in after.items() if name in ("decode at 0", "prefill at 0")}
    assert not [row for row in compare_runs(before, alone).rows if row.name == WHOLE]


def test_busy_samples_do_not_count_where_there_are_quiet_ones() -> None:
    found = metric("x", "tokens/s", Better.HIGHER, [Sample(100), Sample(20, 0.9), Sample(101, 0.05), Sample(30, 0.8)])
    assert (found.median, found.n, found.busy) == (100.5, 2, False)


def test_without_quiet_samples_the_quietest_count_and_the_metric_says_so() -> None:
    found = metric("x", "tokens/s", Better.HIGHER, [Sample(90, 0.2), Sample(20, 0.9), Sample(30, 0.8)])
    assert found.busy and found.load > BUSY


def test_a_plan_missed_by_more_than_its_error_is_a_finding_with_both_numbers() -> None:
    verdict = verdict_on({"prefill at 0": speed(210, 211, 212)}, {"prefill at 0": 480.0}, 0.2)
    assert not verdict.ok
    assert "211" in verdict.findings[0] and "480" in verdict.findings[0] and "±20%" in verdict.findings[0]


def test_a_plan_met_within_its_error_is_good() -> None:
    assert verdict_on({"prefill at 0": speed(400, 410, 420)}, {"prefill at 0": 480.0}, 0.2).ok


def test_a_cache_that_does_not_hold_is_a_finding() -> None:
    hits = metric("cache hit ratio", "of the prompt", Better.HIGHER, [Sample(0.4), Sample(0.5)])
    assert "cache" in verdict_on({hits.name: hits}, {}, 0.2).findings[0]


def test_a_busy_machine_turns_a_missed_plan_into_a_note() -> None:
    verdict = verdict_on({"prefill at 0": speed(10, 11, 12, load=0.8)}, {"prefill at 0": 480.0}, 0.2)
    assert verdict.ok and any("other programs" in note for note in verdict.notes)


def health(around: Circumstances) -> str:
    [sentence] = judge_health({"prefill": 210.0}, {"prefill": 480.0}, 0.3, around)
    return sentence


def test_on_wsl_a_slow_device_may_have_spilled_into_ram() -> None:
    sentence = health(Circumstances(spills=True, calibrated=True))
    assert "Windows may have moved GPU memory into system RAM" in sentence


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
