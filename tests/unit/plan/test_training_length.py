"""A context is never above what the model was trained on, unless YaRN is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmstack.errors import BadInput
from llmstack.plan import Goal, ModelFacts, Plan, make_plan, to_json
from llmstack.plan.assignment import Assignment
from llmstack.plan.client_room import too_small
from llmstack.plan.training_length import Stretch, stretch_of
from llmstack.warmstart.fingerprint import folder_name
from support.planner.draws import facts, machine

SHORT = replace(facts("llama-8b"), n_ctx_train=8192)
YARN = {"rope-scaling": "yarn"}


def planned(goal: Goal, model: ModelFacts = SHORT) -> Plan:
    return make_plan(model, machine(0, 64), goal)


def value(plan: Plan, flag: str) -> str | None:
    return plan.argv[plan.argv.index(flag) + 1] if flag in plan.argv else None


@pytest.mark.parametrize(
    ("goal", "ctx"),
    [
        (Goal(ctx=32768), "8192"),
        (Goal(pins={"c": "32768"}), "8192"),
        (Goal(pins={"ctx-size": "32768", "np": "2"}), "16384"),
        (Goal(ctx=32768, parallel=3), "24576"),
        (Goal(pins={"c": "65536", "np": "2", "kvu": "on"}), "16384"),
        (Goal(ctx=8193), "8192"),
    ],
)
def test_a_slot_never_gets_more_than_the_model_was_trained_on_and_the_plan_says_so(goal: Goal, ctx: str) -> None:
    plan = planned(goal)
    assert (value(plan, "-c"), plan.n_ctx_slot) == (ctx, 8192)
    assert "trained on 8192" in next(d.reason for d in plan.decisions if d.flag == "-c")
    assert plan.warnings == (plan.warnings[0], too_small(8192)) and plan.warnings[0] in plan.notes
    assert "it gets 8192; --set rope-scaling=yarn stretches it" in plan.warnings[0]
    assert to_json(plan)["n_ctx_slot"] == 8192 and to_json(plan)["warnings"] == list(plan.warnings)


@pytest.mark.parametrize("goal", [Goal(), Goal(ctx=8192), Goal(ctx=8192, parallel=4), Goal(pins={"c": "4096"})])
def test_what_the_model_can_do_is_planned_as_asked_for_and_only_the_client_is_warned_of(goal: Goal) -> None:
    plan = planned(goal)
    assert plan.warnings == (too_small(plan.n_ctx_slot),)


def test_one_cache_for_all_slots_may_be_larger_than_one_slot() -> None:
    plan = planned(Goal(pins={"c": "16384", "np": "2", "kvu": "on"}))
    assert (value(plan, "-c"), plan.n_ctx_slot) == ("16384", 8192)


def test_a_file_without_a_training_length_is_not_capped() -> None:
    plan = planned(Goal(ctx=32768), replace(SHORT, n_ctx_train=0))
    assert (plan.n_ctx_slot, plan.warnings) == (32768, ())


def test_yarn_that_was_asked_for_stretches_the_context_and_tells_its_cost() -> None:
    plan = planned(Goal(ctx=32768, pins=YARN))
    assert (plan.n_ctx_slot, plan.warnings) == (32768, ())
    words = [value(plan, flag) for flag in ("-c", "--rope-scaling", "--rope-scale", "--yarn-orig-ctx")]
    assert words == ["32768", "yarn", "4", "8192"]
    decision = next(d for d in plan.decisions if d.flag == "--rope-scaling")
    assert decision.pinned and "short prompts" in decision.cost and "saved prompts" in decision.cost


def test_the_stretch_is_of_one_slot() -> None:
    plan = planned(Goal(ctx=16384, parallel=2, pins=YARN))
    assert (value(plan, "-c"), value(plan, "--rope-scale"), plan.n_ctx_slot) == ("32768", "2", 16384)


def test_yarn_within_the_training_length_sets_no_flag() -> None:
    plan = planned(Goal(ctx=8192, pins=YARN))
    assert "--rope-scaling" not in plan.argv
    assert next(d.value for d in plan.decisions if d.flag == "--rope-scaling") == "none"


def test_yarn_without_a_context_starts_from_the_usual_one() -> None:
    assert planned(Goal(pins=YARN)).n_ctx_slot == 65536


@pytest.mark.parametrize("ctx", [4096, 32768])
def test_the_pins_of_a_deployed_plan_make_the_same_plan_again(ctx: int) -> None:
    """`tune` plans with them."""
    plan = planned(Goal(ctx=ctx, pins=YARN))
    again = planned(Goal(pins={decision.flag: decision.value for decision in plan.decisions if decision.pinned}))
    assert again.argv == plan.argv


def test_saved_prompts_are_not_shared_with_a_stack_without_the_stretch() -> None:
    long, short = planned(Goal(ctx=32768, pins=YARN)), planned(Goal(ctx=32768), replace(SHORT, n_ctx_train=32768))
    assert folder_name(long.argv) != folder_name(short.argv)


def test_no_scaling_can_be_asked_for_too() -> None:
    plan = planned(Goal(ctx=32768, pins={"rope-scaling": "none"}))
    assert plan.n_ctx_slot == 8192 and plan.warnings and "--rope-scaling" not in plan.argv


@pytest.mark.parametrize("ctx", [8448, 9999, 12288, 27000, 100_000, 131_072])
def test_the_scale_always_reaches_the_context_in_single_precision(ctx: int) -> None:
    stretch = stretch_of(SHORT, Assignment(ctx=ctx, ngl=0, rope_scaling="yarn"))
    assert stretch is not None and stretch.reach >= ctx
    assert Stretch(stretch.scale - 0.25, 8192).reach < ctx or stretch.scale == 1.25


def test_a_file_that_is_stretched_already_is_stretched_anew_from_its_first_length() -> None:
    qwen = replace(SHORT, n_ctx_train=131072, rope_scaled="yarn", rope_factor=4.0, n_ctx_original=32768)
    plan = planned(Goal(ctx=262_144, pins=YARN), qwen)
    assert (value(plan, "--rope-scale"), value(plan, "--yarn-orig-ctx")) == ("8", "32768")
    assert "--rope-scale" not in planned(Goal(ctx=131_072, pins=YARN), qwen).argv


def test_the_scale_is_never_the_files_own_since_llama_cpp_then_keeps_the_training_length() -> None:
    odd = replace(SHORT, n_ctx_train=32768, rope_scaled="yarn", rope_factor=4.0, n_ctx_original=32768)
    assert value(planned(Goal(ctx=131_072, pins=YARN), odd), "--rope-scale") == "4.25"


@pytest.mark.parametrize("kind", ["longrope", "linear", "frequency factors"])
def test_positions_that_are_scaled_otherwise_are_not_scaled_twice(kind: str) -> None:
    other = replace(SHORT, rope_scaled=kind)
    with pytest.raises(BadInput, match="scales its positions already"):
        planned(Goal(ctx=32768, pins=YARN), other)
    assert "can't stretch it further" in planned(Goal(ctx=32768), other).warnings[0]


def test_the_alternatives_stay_within_the_training_length() -> None:
    for other in planned(Goal(ctx=32768)).alternatives:
        assert int(other.argv[other.argv.index("-c") + 1]) <= 8192
