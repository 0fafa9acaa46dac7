"""The coordinate search of `tune`, on measured surfaces that are written down."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmstack.bench.tune import EXPERT_CACHES, Aim, Trial, _chunk, axes, moved, search, seconds_of
from llmstack.errors import NotSo
from llmstack.hardware import Cpu, Device, Hardware, Ram
from llmstack.plan import Workload, read_facts
from llmstack.plan.assignment import Assignment
from support.planner import shapes

START = Assignment(ctx=65536, ngl=0, threads=4, ubatch=512)
AXES: dict[str, tuple[Any, ...]] = {
    "ubatch": (128, 256, 512, 1024, 2048, 4096),
    "threads": (2, 3, 4, 8),
    "type_k": ("q4_0", "q8_0", "f16"),
}


def surface(a: Assignment) -> float:
    """A valley at -ub 2048, -t 3, q8_0: seconds."""
    return (
        100
        * (1 + 0.2 * abs(AXES["ubatch"].index(a.ubatch) - 4))
        * (1 + 0.3 * abs(AXES["threads"].index(a.threads) - 1))
        * (1 + 0.1 * abs(AXES["type_k"].index(a.type_k) - 1))
    )


def tried(cost: Callable[[Assignment], float]) -> tuple[Callable[[Assignment], Trial], list[Assignment]]:
    seen: list[Assignment] = []

    def measure(a: Assignment) -> Trial:
        seen.append(a)
        return Trial(a, 1.0, 1.0, cost(a))

    return measure, seen


def test_it_finds_the_best_of_the_grid_in_a_third_of_its_trials() -> None:
    measure, seen = tried(surface)
    best, _ = search(START, AXES, lambda _: True, measure)
    grid = list(itertools.product(*AXES.values()))
    every = [surface(moved(moved(moved(START, "ubatch", u), "threads", t), "type_k", k)) for u, t, k in grid]
    assert best.seconds <= min(every) * 1.05
    assert len(seen) <= len(grid) / 3


def test_nothing_is_measured_twice() -> None:
    measure, seen = tried(surface)
    search(START, AXES, lambda _: True, measure)
    assert len(seen) == len(set(seen))


def test_what_does_not_fit_the_budgets_is_never_started() -> None:
    measure, seen = tried(surface)
    best, _ = search(START, AXES, lambda a: a.ubatch <= 1024, measure)
    assert max(a.ubatch for a in seen) <= 1024
    assert best.assignment.ubatch == 1024


def test_differences_below_three_percent_move_nothing() -> None:
    measure, _ = tried(lambda a: 100 - a.ubatch / 4096)
    best, _ = search(START, AXES, lambda _: True, measure)
    assert best.assignment == START


def test_a_plan_that_no_longer_fits_is_told() -> None:
    measure, seen = tried(surface)
    with pytest.raises(NotSo, match="no longer fits"):
        search(START, AXES, lambda _: False, measure)
    assert not seen


def test_the_cache_type_never_gets_coarser() -> None:
    facts = read_facts(shapes.llama_8b().header())
    hardware = Hardware(Ram(65536, 60000), Cpu(8, 16))
    found = axes(Assignment(ctx=65536, ngl=0, type_k="q8_0", type_v="q8_0", threads=8), facts, hardware)
    assert found["type_k"] == ("q8_0", "f16")


def test_what_is_pinned_is_left_alone() -> None:
    facts = read_facts(shapes.llama_8b().header())
    assert "ubatch" not in axes(START, facts, Hardware(Ram(65536, 60000), Cpu(8, 16)), pinned=("-ub",))


def test_experts_are_moved_only_where_a_card_takes_them() -> None:
    facts = read_facts(shapes.qwen3moe_30b().header())
    card = Device("NVIDIA GeForce RTX 4070", "CUDA", 12282, 11900)
    here = Assignment(ctx=65536, ngl=49, ncmoe=20, has_gpu=True, threads=8)
    assert axes(here, facts, Hardware(Ram(65536, 60000), Cpu(8, 16), (card,)))["ncmoe"] == tuple(range(16, 24))
    assert "ncmoe" not in axes(START, facts, Hardware(Ram(65536, 60000), Cpu(8, 16)))


def test_a_cache_for_experts_in_ram_is_tried_where_the_engine_has_one_and_never_chosen_unmeasured() -> None:
    facts = read_facts(shapes.qwen35moe_35b().header())
    card = Device("RTX 4070", "CUDA", 12288, 11919)
    hardware = Hardware(Ram(65536, 60000), Cpu(8, 16), (card,))
    here = Assignment(ctx=65536, ngl=41, ncmoe=20, threads=8)
    assert axes(here, facts, hardware, has_expert_cache=True)["moe_cache_mib"] == EXPERT_CACHES
    assert "moe_cache_mib" not in axes(here, facts, hardware)
    assert "moe_cache_mib" not in axes(replace(here, ncmoe=0), facts, hardware, has_expert_cache=True)
    assert here.moe_cache_mib == 0


def test_the_aim_weighs_prompts_and_answers() -> None:
    work = Workload(cold_tokens=1000, turn_tokens=100, turns=10, output_tokens=50)
    assert seconds_of(Aim.PREFILL, 100.0, 10.0, work) == pytest.approx(20.0)
    assert seconds_of(Aim.DECODE, 100.0, 10.0, work) == pytest.approx(50.0)
    assert seconds_of(Aim.SESSION, 100.0, 10.0, work) == pytest.approx(70.0)


@pytest.mark.parametrize(
    ("ctx", "prefill_tps", "taken", "chunk"),
    [
        (65536, 2000.0, 512, 4096),  # every -ub shows what it does
        (65536, 400.0, 512, 1024),
        (65536, 30.0, 64, 64),  # a slow machine's trial stays short
        (4096, 2000.0, 512, 2048),  # what is left of the context
    ],
)
def test_the_prompts_of_a_trial_are_as_long_as_the_widest_ubatch_that_time_and_context_allow(
    ctx: int, prefill_tps: float, taken: int, chunk: int
) -> None:
    start = Assignment(ctx=ctx, ngl=0, threads=4)
    assert _chunk(start, Trial(start, prefill_tps, 10.0, 60.0), taken) == chunk
