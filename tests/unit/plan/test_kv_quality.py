"""A finer cache is taken where it is worth its time; what a smaller one does to answers is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmstack.errors import BadInput
from llmstack.plan import Goal, Plan, make_plan, to_json
from llmstack.plan.kv_quality import DEEP, KvHarm, known_harm, worth
from support.planner.draws import facts, machine


def plan_of(model: str, vram: float, goal: Goal | None = None) -> Plan:
    return make_plan(facts(model), machine(vram, 64), goal or Goal())


def test_a_finer_cache_that_fits_is_taken_and_the_smallest_one_s_gain_is_told() -> None:
    plan = plan_of("qwen3-8b", 24)
    assert plan.assignment.type_k in ("f16", "q8_0")
    [row] = [d for d in plan.decisions if d.flag == "-ctk"]
    assert "worth its time" in row.reason


def test_four_bits_are_taken_where_a_finer_cache_would_cost_too_much_and_deep_ones_are_warned_of() -> None:
    plan = plan_of("llama-8b", 7.5)
    assert plan.assignment.type_k == "q4_0" and plan.n_ctx_slot > DEEP
    assert any("fail at tool calls with 4 bits" in sentence for sentence in plan.warnings)
    assert all(sentence not in plan_of("llama-8b", 7.5, Goal(ctx=32768)).warnings for sentence in plan.warnings)


def test_where_four_bits_hurt_a_finer_cache_may_cost_more_and_four_bits_are_never_silent() -> None:
    gemma = facts("gemma4-26b-a4b")
    assert worth("q8_0", known_harm(gemma)["q4_0"]) > worth("q8_0", known_harm(facts("llama-8b"))["q4_0"])
    pinned = plan_of("gemma4-26b-a4b", 24, Goal(ctx=16384, kv_type="q4_0"))
    assert any("costs this model's answers" in s and "--kv-type q8_0" in s for s in pinned.warnings)


def test_each_type_is_offered_with_what_it_costs_and_what_is_known_of_it() -> None:
    offered = {cache["type"]: cache for cache in to_json(plan_of("gemma4-26b-a4b", 24))["cache_types"]}
    assert set(offered) == {"f16", "q8_0", "q4_0"}
    assert offered["q4_0"]["harm"]["kl"] == [1.088, 1.088] and "Gemma" in offered["q4_0"]["harm"]["source"]
    assert all(cache["context_mib"] > 0 for cache in offered.values())
    assert offered["q8_0"]["predicted"]["session_s"] > 0


def test_what_was_measured_of_this_model_counts_before_what_is_known_of_its_family() -> None:
    harmless = {"q4_0": KvHarm((0.01, 0.01), 0.99, "bench --quality, 2026-11-29", measured=True)}
    assert known_harm(facts("gemma4-26b-a4b"), harmless)["q4_0"] is harmless["q4_0"]
    assert worth("q8_0", harmless["q4_0"]) < worth("q8_0", known_harm(facts("llama-8b"))["q4_0"])
    plan = plan_of("llama-8b", 7.5, Goal(kv_measured=harmless))
    assert plan.warnings == ()


def test_a_type_without_any_kernel_is_refused_on_a_card_and_taken_on_the_processor() -> None:
    with pytest.raises(BadInput, match="no kernel"):
        plan_of("llama-8b", 24, Goal(kv_type="iq4_nl"))
    on_processor = make_plan(facts("llama-8b"), machine(0, 64), Goal(kv_type="iq4_nl"))
    assert on_processor.assignment.type_k == "iq4_nl"


def test_a_type_that_is_converted_at_every_step_says_so() -> None:
    [row] = [d for d in plan_of("llama-8b", 24, Goal(kv_type="q5_1")).decisions if d.flag == "-ctk"]
    assert "without a kernel of its own" in row.reason


def test_room_for_other_programs_is_kept_and_the_larger_of_both_margins_counts() -> None:
    plain, kept = (plan_of("llama-8b", 24, Goal(keep_free_mib=mib)) for mib in (None, 4096))
    assert kept.budget.devices[0] == plain.hardware.devices[0].free_mib - 4096
    little = plan_of("llama-8b", 24, Goal(keep_free_mib=100))
    assert little.budget == plain.budget
    assert replace(plain.goal, keep_free_mib=None) == plain.goal
