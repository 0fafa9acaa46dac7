"""With the image encoder where that costs little, without it where it costs the context or the speed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmstack.plan import Goal, Infeasible, Plan, ProjectorFacts, make_plan
from llmstack.plan.explain import explain
from llmstack.plan.result import to_json
from support.planner.draws import facts, machine

MIB = 1 << 20
ENCODER = ProjectorFacts("/m/mmproj-F16.gguf", "qwen3vl_merger", 4096, 840 * MIB, 480 * MIB, 248 * MIB, 4096)
SEEING = Goal(mmproj_path=ENCODER.path, projector=ENCODER)


def decided(plan: Plan, flag: str) -> str:
    return next((f"{d.value} {d.reason} {d.cost}" for d in plan.decisions if d.flag == flag), "")


def test_where_there_is_room_images_are_read_and_the_decision_names_the_cost() -> None:
    plan = make_plan(facts("llama-8b"), machine(24, 64), SEEING)
    assert plan.argv[plan.argv.index("-mm") + 1] == ENCODER.path
    assert "mmproj-F16.gguf reads images, 4096 tokens of context" in decided(plan, "-mm")
    assert "VRAM" in decided(plan, "-mm") and not decided(plan, "--no-mmproj")
    assert to_json(plan)["vision"] == {
        "projector": ENCODER.path, "weights_mib": 840, "compute_mib": 480, "image_tokens": 4096, "on": "device",
    }  # fmt: skip


def test_its_memory_is_on_the_first_card_beside_what_llama_server_reports() -> None:
    with_it, alone = (make_plan(facts("llama-8b"), machine(24, 64), goal) for goal in (SEEING, Goal()))
    assert with_it.assignment == alone.assignment
    more = with_it.memory.devices[0].other - alone.memory.devices[0].other
    assert more == pytest.approx(ENCODER.device_bytes(scratch=True) / MIB)
    assert with_it.memory.devices[0].weights == alone.memory.devices[0].weights
    assert with_it.memory.host == alone.memory.host


def test_without_a_card_it_is_in_ram() -> None:
    with_it, alone = (make_plan(facts("llama-8b"), machine(0, 64), goal) for goal in (SEEING, Goal()))
    more = with_it.memory.host.other - alone.memory.host.other
    assert more == pytest.approx(1320) and "RAM" in decided(with_it, "-mm")
    assert to_json(with_it)["vision"]["on"] == "host"


def test_a_card_that_is_left_alone_leaves_it_in_ram_too() -> None:
    plan = make_plan(facts("llama-8b"), machine(24, 64), replace(SEEING, pins={"ngl": "0"}))
    assert plan.memory.devices[0].total == 0 and "RAM" in decided(plan, "-mm")


def test_where_layers_would_make_way_it_is_left_out_with_the_reason_and_the_flag_that_takes_it() -> None:
    plan = make_plan(facts("llama-8b"), machine(6, 64), SEEING)
    alone = make_plan(facts("llama-8b"), machine(6, 64), Goal())
    assert plan.assignment == alone.assignment and "-mm" not in plan.argv
    assert "the same work takes" in decided(plan, "--no-mmproj") and "--vision" in decided(plan, "--no-mmproj")
    assert to_json(plan)["vision"] is None and plan.goal.projector is None


def test_where_it_was_asked_for_it_is_taken_whatever_it_costs() -> None:
    plan = make_plan(facts("llama-8b"), machine(6, 64), replace(SEEING, vision=True))
    alone = make_plan(facts("llama-8b"), machine(6, 64), Goal())
    assert "-mm" in plan.argv and plan.predicted.session_s > alone.predicted.session_s
    assert next(d for d in plan.decisions if d.flag == "-mm").pinned


def test_where_it_was_refused_it_is_left_out() -> None:
    plan = make_plan(facts("llama-8b"), machine(24, 64), replace(SEEING, vision=False))
    assert "-mm" not in plan.argv and "left out by you" in decided(plan, "--no-mmproj")


def test_without_room_for_it_the_model_runs_alone_and_says_so() -> None:
    huge = replace(ENCODER, weights=60 << 30)
    goal = replace(SEEING, projector=huge)
    plan = make_plan(facts("llama-8b"), machine(24, 32), goal)
    assert "there is no room" in decided(plan, "--no-mmproj") and "-mm" not in plan.argv
    with pytest.raises(Infeasible) as refused:
        make_plan(facts("llama-8b"), machine(0, 32), replace(goal, vision=True))
    assert "--no-vision" in refused.value.nearest


def test_a_model_without_an_image_encoder_has_no_word_about_images() -> None:
    plan = make_plan(facts("llama-8b"), machine(24, 64), Goal())
    assert not decided(plan, "-mm") and not decided(plan, "--no-mmproj") and to_json(plan)["vision"] is None


def test_an_encoder_whose_header_is_not_known_is_noted() -> None:
    plan = make_plan(facts("llama-8b"), machine(24, 64), replace(SEEING, projector=replace(ENCODER, known=False)))
    assert any("upper estimate" in note for note in plan.notes)


def test_the_decision_has_a_long_answer() -> None:
    plan = make_plan(facts("llama-8b"), machine(24, 64), SEEING)
    assert "image encoder" in str(explain(plan, "mm"))


def test_on_two_cards_it_is_counted_once_on_the_first_in_use() -> None:
    both = {"ts": "1,1"}
    goals = (replace(SEEING, pins=both), Goal(pins=both))
    with_it, alone = (make_plan(facts("llama-8b"), machine(12, 64, gpus=2), goal) for goal in goals)
    more = [a.other - b.other for a, b in zip(with_it.memory.devices, alone.memory.devices, strict=True)]
    assert more[0] == pytest.approx(ENCODER.device_bytes(scratch=True) / MIB) and more[1] == pytest.approx(0, abs=1)
