"""Pinned flags: read by the table, checked against the model, clamped to its size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmstack.errors import BadInput
from llmstack.llama_server.flags import FLAGS
from llmstack.plan import Goal, make_plan
from llmstack.plan.pins import pinned_flags, read_pins
from support.planner.draws import facts, machine

DENSE, EXPERTS = facts("llama-8b"), facts("qwen3moe-30b-a3b")


def pinned(model: str = "llama-8b", **pins: str) -> dict[str, object]:
    return read_pins(Goal(pins=pins), facts(model))[1]


def test_a_pin_is_of_the_assignment_or_of_the_goal() -> None:
    goal, fields = read_pins(Goal(pins={"n": "100", "-rea": "on", "ub": "1024"}), DENSE)
    assert (goal.n_predict, goal.reasoning, fields) == (100, "on", {"ubatch": 1024})


def test_more_layers_and_blocks_than_there_are_mean_all() -> None:
    assert pinned(ngl="999", ncffn="all") == {"ngl": DENSE.n_layer_all + 1, "ncffn": DENSE.n_layer_all}
    assert pinned("qwen3moe-30b-a3b", ncmoe="999") == {"ncmoe": EXPERTS.n_layer_all}


def test_the_options_of_the_command_line_pin_flags_too() -> None:
    goal = Goal(ctx=8192, parallel=2, kv_type="f16", pins={"ub": "512", "ctk": "q8_0"})
    assert read_pins(goal, DENSE)[1] == {"ubatch": 512, "type_k": "q8_0", "type_v": "f16", "parallel": 2, "ctx": 16384}
    assert pinned_flags(goal) == {"-ub", "-ctk", "-ctv", "-c", "-np"}


def test_every_flag_that_can_be_pinned_refuses_what_it_cannot_take_and_says_what_it_takes() -> None:
    for flag in (flag for flag in FLAGS if flag.pinnable):
        with pytest.raises(BadInput, match="takes") as caught:
            pinned(**{flag.name: "certainly not"})
        assert f"{flag.name} takes {flag.kind.expects}" in str(caught.value)


@pytest.mark.parametrize("shares", ["nan,1", "inf,1", "1e400,1", "1,1e30", "-1,1", "0,0"])
def test_shares_that_nothing_can_be_divided_by_are_refused(shares: str) -> None:
    with pytest.raises(BadInput, match="-ts takes shares"):
        pinned(ts=shares)


@pytest.mark.parametrize("other", [{"ngl": "10"}, {"ts": "1"}])
def test_no_device_and_layers_on_one_cannot_both_be_pinned(other: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="-dev none and -"):
        make_plan(DENSE, machine(24, 64), Goal(pins={"dev": "none", **other}))


def test_a_flag_that_is_no_longer_there_is_refused_with_its_successor() -> None:
    with pytest.raises(BadInput, match="no longer has --no-mmap") as caught:
        pinned(**{"no-mmap": "1"})
    assert caught.value.next == "use -lm none"


def test_threads_for_prompts_are_carried_when_pinned_and_never_set_otherwise() -> None:
    plan = make_plan(DENSE, machine(0, 32), Goal(pins={"threads-batch": "3"}))
    line = plan.argv
    assert line[line.index("-tb") : line.index("-tb") + 2] == ("-tb", "3")
    decision = next(d for d in plan.decisions if d.flag == "-tb")
    assert (decision.value, decision.pinned) == ("3", True) and decision.reason.startswith("pinned by you; CPU threads")
    free = make_plan(DENSE, machine(0, 32), Goal())
    assert "-tb" not in free.argv and free.predicted == plan.predicted


def test_a_cache_of_experts_is_never_planned_and_counts_when_it_is_pinned() -> None:
    pins = {"ncmoe": "20", "ngl": "99"}
    free = make_plan(EXPERTS, machine(24, 64), Goal(pins=pins))
    plan = make_plan(EXPERTS, machine(24, 64), Goal(pins={**pins, "moe-cache-mib": "1024"}))
    assert "--moe-cache-mib" not in free.argv
    line = plan.argv
    assert line[line.index("--moe-cache-mib") : line.index("--moe-cache-mib") + 2] == ("--moe-cache-mib", "1024")
    more = plan.memory.devices[0].other - free.memory.devices[0].other
    assert more == pytest.approx(1024, abs=1) and plan.memory.host.total == pytest.approx(
        free.memory.host.total, abs=64
    )


def test_a_cache_of_experts_takes_nothing_where_all_experts_are_on_the_card() -> None:
    pins = {"ncmoe": "0", "ngl": "99"}
    free = make_plan(EXPERTS, machine(48, 64), Goal(pins=pins))
    plan = make_plan(EXPERTS, machine(48, 64), Goal(pins={**pins, "moe-cache-mib": "1024"}))
    assert plan.memory.devices[0].other == free.memory.devices[0].other


def test_two_cards_share_a_cache_of_experts_as_they_share_the_layers() -> None:
    pins = {"ncmoe": "40", "ngl": "99", "ts": "3,1"}
    both = [machine(24, 64), machine(24, 64)]
    hardware = replace(both[0], devices=(*both[0].devices, *both[1].devices))
    free = make_plan(EXPERTS, hardware, Goal(pins=pins))
    plan = make_plan(EXPERTS, hardware, Goal(pins={**pins, "moe-cache-mib": "1000"}))
    more = [b.other - a.other for a, b in zip(free.memory.devices, plan.memory.devices, strict=True)]
    assert sum(more) == pytest.approx(1000, abs=2) and more[0] > 2 * more[1] > 0


def test_a_cache_of_experts_is_refused_where_the_engine_would_refuse_it() -> None:
    with pytest.raises(BadInput, match="no experts"):
        pinned(**{"moe-cache-mib": "1024"})
    with pytest.raises(BadInput, match="no GPU"):
        make_plan(EXPERTS, machine(0, 64), Goal(pins={"moe-cache-mib": "1024"}))
