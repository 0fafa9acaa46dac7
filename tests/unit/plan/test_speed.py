"""The speed model against published figures (tests/support/planner/points.toml)."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from llmstack.hardware import Cpu, Hardware, Ram
from llmstack.plan import Goal, Workload, make_plan
from llmstack.plan.assignment import Assignment
from llmstack.plan.memory import Estimator
from llmstack.plan.speed import Speed
from support.planner.draws import facts
from support.planner.points import cases


def misses(metric: str) -> list[float]:
    return [case.off for case in cases() if case.metric == metric and case.now]


@pytest.mark.parametrize("metric", ["decode", "prefill"])
def test_published_speeds_are_met_within_15_percent_in_the_median_and_none_is_missed_by_twice(metric: str) -> None:
    off = misses(metric)
    assert len(off) > 40
    assert statistics.median(off) <= 0.15
    assert max(off) < 1.0


def test_four_of_five_published_speeds_lie_in_the_range_that_a_plan_states() -> None:
    found = [case for case in cases() if case.factor and case.now]
    inside = [case for case in found if 1 / case.factor <= case.published / case.predicted <= case.factor]
    assert len(inside) >= 0.8 * len(found)


def test_vram_of_the_anchors_is_met_within_5_percent() -> None:
    assert all(abs(case.error) <= 0.05 for case in cases() if case.metric == "vram")


def test_the_work_is_shortened_to_the_context() -> None:
    assert Workload().within(65536) == Workload()
    small = Workload().within(8192)
    assert small.cold_tokens + small.output_tokens <= 8192
    assert small.depth + small.turn_tokens + small.output_tokens <= 8192


def on_cpu(model: str, cores: int = 8) -> tuple[Speed, Assignment]:
    hardware = Hardware(Ram(131072, 120000, None, 60.0), Cpu(cores, cores, ("avx2",)))
    found = facts(model)
    a = Assignment(ctx=65536, ngl=0, type_k="f16", type_v="f16", threads=cores)
    return Speed(found, hardware, Estimator(found, ())), a


def of_type(a: Assignment, kind: str) -> Assignment:
    return replace(a, type_k=kind, type_v=kind)


def test_threads_read_a_long_prompt_faster_over_an_f16_cache_than_over_a_smaller_quantised_one() -> None:
    speed, a = on_cpu("llama-8b")
    times = [speed.prefill_s(of_type(a, kind), 2000, 30000) for kind in ("f16", "q8_0", "q4_0")]
    assert times == sorted(times) and times[2] > 3 * times[0]
    assert speed.prefill_s(replace(a, type_v="q8_0"), 2000, 30000) == times[1]


def test_no_token_comes_sooner_than_its_cache_from_ram() -> None:
    speed, a = on_cpu("llama-8b", cores=256)
    added = speed.token_s(a, 32000) - speed.token_s(a, 0)
    assert added >= speed.estimator.live_cache_bytes(a, 32000) / speed.rates.read / 1e9


def test_without_a_gpu_the_plan_takes_f16_and_says_what_q4_0_would_cost() -> None:
    hardware = Hardware(Ram(131072, 120000, None, 60.0), Cpu(8, 8, ("avx2",)))
    plan = make_plan(facts("llama-8b"), hardware, Goal())
    assert (plan.assignment.type_k, plan.assignment.type_v) == ("f16", "f16")
    [kind] = [decision for decision in plan.decisions if decision.flag == "-ctk"]
    assert "row by row" in kind.reason and "slower" in kind.cost
    tight = replace(hardware, ram=Ram(12000, 10000, None, 60.0))
    assert make_plan(facts("llama-8b"), tight, Goal()).assignment.type_k != "f16"
