"""The search keeps its budgets, refuses nothing that fits, and finds what trying everything finds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from llmstack.errors import BadInput
from llmstack.hardware import Hardware
from llmstack.plan import Goal, Infeasible, make_plan
from llmstack.plan.assignment import Assignment
from llmstack.plan.facts import ModelFacts
from llmstack.plan.search import Search
from support.planner.draws import draws, facts, machine

KV = "q4_0"


def test_no_plan_of_500_draws_goes_over_its_budgets() -> None:
    feasible = 0
    for draw in draws(500, seed=11):
        search = Search(draw.facts, draw.hardware, Goal(), {"ubatch": 512} if len(draw.hardware.devices) > 1 else {})
        found = search.best(draw.ctx, KV, KV)
        if found is None:
            continue
        feasible += 1
        budget = search.budget
        for device, use, mib in zip(draw.hardware.devices, found.memory.devices, budget.devices, strict=True):
            assert use.total <= mib <= device.free_mib, draw.number
        assert found.memory.host.total <= budget.ram <= draw.hardware.ram.available_mib, draw.number
        assert found.assignment.ctx == draw.ctx
    assert feasible > 250


def everything(search: Search, ctx: int) -> list[Assignment]:
    """Every assignment of a reduced grid that keeps both budgets."""
    found = []
    n = search.facts.n_layer_all
    field = "ncmoe" if search.facts.moe else "ncffn"
    base = Assignment(ctx=ctx, ngl=0, type_k=KV, type_v=KV, has_gpu=True, threads=8)
    for ngl, blocks, ubatch, nkvo in itertools.product(
        range(0, n + 2, 3), range(0, n + 1, 3), (512, 2048), (False, True)
    ):
        if (ngl == 0 and blocks) or (blocks and blocks <= n + 1 - ngl):
            continue
        a = replace(base, ngl=ngl, ubatch=ubatch, nkvo=nkvo, **{field: blocks})  # type: ignore[arg-type]
        if search.fits_devices(a):
            done = search.finish(a)
            if done is not None:
                found.append(done)
    return found


@pytest.mark.parametrize(
    ("name", "vram", "ram"),
    [
        ("qwen3moe-30b-a3b", 8, 24),
        ("qwen35moe-35b-a3b", 12, 32),
        ("qwen2-14b", 8, 16),
        ("gemma3-12b", 6, 16),
        ("devstral-24b", 12, 12),
        ("gpt-oss-20b", 4, 16),
        ("deepseek2-30b-a3b", 6, 14),
        ("llama-8b", 4, 8),
    ],
)
def test_the_search_is_as_good_as_trying_every_combination(name: str, vram: float, ram: float) -> None:
    search = Search(facts(name), machine(vram, ram), Goal(), {})
    best = search.best(32768, KV, KV)
    tried = [search.score(a) for a in everything(search, 32768)]
    assert (best is None) <= (not tried), "refused, though an assignment fits"
    baseline = search.baseline(32768, KV, KV)
    fair = [other for other in tried if baseline is None or search.share_of_baseline(other, baseline) >= 1] or tried
    if fair:
        assert best is not None
        assert best.cost <= min(other.cost for other in fair) * 1.01


def test_nothing_that_fits_is_refused_over_many_small_machines() -> None:
    names = ("qwen3moe-30b-a3b", "llama-8b", "gpt-oss-20b", "qwen35-27b")
    for name, vram, ram in itertools.product(names, (4, 9), (4, 8, 14, 20)):
        search = Search(facts(name), machine(vram, ram), Goal(), {})
        if search.best(16384, KV, KV) is None:
            assert everything(search, 16384) == []


def plan_of(model: ModelFacts, hardware: Hardware, **pins: str) -> Assignment:
    return make_plan(model, hardware, Goal(pins=pins)).assignment


@pytest.mark.parametrize(
    ("pins", "field", "value"),
    [
        ({"ncmoe": "30"}, "ncmoe", 30),
        ({"--n-cpu-moe": "30"}, "ncmoe", 30),
        ({"ngl": "20"}, "ngl", 20),
        ({"ngl": "all", "ncmoe": "40"}, "ngl", 41),
        ({"nkvo": "on"}, "nkvo", True),
        ({"ub": "1024"}, "ubatch", 1024),
        ({"ctk": "q8_0", "ctv": "q8_0"}, "type_k", "q8_0"),
        ({"cram": "512"}, "cache_ram_mib", 512),
        ({"ctxcp": "3"}, "checkpoints", 3),
        ({"lm": "mmap"}, "load_mode", "mmap"),
        ({"t": "3"}, "threads", 3),
        ({"np": "2"}, "parallel", 2),
    ],
)
def test_a_pinned_flag_is_kept(pins: dict[str, str], field: str, value: object) -> None:
    assert getattr(plan_of(facts("qwen35moe-35b-a3b"), machine(12, 64), **pins), field) == value


def test_a_pin_that_does_not_fit_is_refused_and_named() -> None:
    with pytest.raises(Infeasible, match=r"pinned ngl=41, ncmoe=0 does not fit") as caught:
        plan_of(facts("qwen35moe-35b-a3b"), machine(12, 64), ngl="all", ncmoe="0")
    assert "leave the pin out" in caught.value.nearest


@pytest.mark.parametrize(
    ("name", "pins", "match"),
    [
        ("llama-8b", {"ncmoe": "3"}, "no experts"),
        ("llama-8b", {"swa-full": "on"}, "no sliding window"),
        ("llama-8b", {"spec-draft-n-max": "2"}, "no prediction"),
        ("llama-8b", {"mlock": "on"}, "no longer has"),
        ("llama-8b", {"rope-scale": "2"}, "cannot be pinned"),
        ("llama-8b", {"ub": "zero"}, "takes a number"),
        ("llama-8b", {"ub": "0"}, "takes a number"),
        ("llama-8b", {"ctk": "q3_k"}, "takes one of"),
        ("llama-8b", {"ts": "1,1"}, "1 GPUs"),
        ("llama-8b", {"rea": "maybe"}, "takes on, off"),
    ],
)
def test_a_pin_that_cannot_be_is_refused_with_its_reason(name: str, pins: dict[str, str], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        plan_of(facts(name), machine(12, 64), **pins)


def test_a_context_that_was_asked_for_is_never_cut() -> None:
    with pytest.raises(Infeasible) as caught:
        make_plan(facts("llama-8b"), machine(0, 10), Goal(ctx=131072))
    largest = int(caught.value.nearest.split()[1])
    plan = make_plan(facts("llama-8b"), machine(0, 10), Goal(ctx=largest))
    assert plan.assignment.ctx == largest


def test_a_context_that_nobody_asked_for_is_cut_loudly() -> None:
    plan = make_plan(facts("llama-8b"), machine(0, 9), Goal())
    assert plan.assignment.ctx < 65536
    assert any("context was cut from 65536" in note for note in plan.notes)
    assert next(d for d in plan.decisions if d.flag == "-c").reason.startswith("CUT from 65536")


def test_each_conversation_gets_the_context_that_was_asked_for() -> None:
    a = make_plan(facts("llama-8b"), machine(24, 64), Goal(ctx=16384, parallel=2)).assignment
    assert (a.ctx, a.parallel) == (32768, 2)
    assert make_plan(facts("llama-8b"), machine(48, 64), Goal(parallel=2)).assignment.ctx == 131072


@pytest.mark.parametrize("slots", [2, 4])
def test_one_cache_for_all_slots_never_gains_without_a_sliding_window(slots: int) -> None:
    """So it is not searched there: the mask grows with -np, and attention passes over the others' cells."""
    for draw in draws(24, seed=23):
        if draw.facts.has_window or not draw.hardware.devices:
            continue
        search = Search(draw.facts, draw.hardware, Goal(), {})
        top = search.top
        for ngl, ubatch, nkvo in itertools.product((0, top // 2, top), (512, 2048), (False, True)):
            apart = Assignment(draw.ctx * slots, ngl, nkvo=nkvo, ubatch=ubatch, parallel=slots, has_gpu=True)
            shared = replace(apart, kv_unified=True)
            before, after = search.score(apart), search.score(shared)
            assert after.cost >= before.cost, (draw.number, apart)
            if nkvo:
                continue  # the copy of one block's cache is the same, the holes it leaves are not
            for one, other in zip(before.memory.devices, after.memory.devices, strict=True):
                assert other.total >= one.total - 1, (draw.number, apart)
            assert after.memory.host.total >= before.memory.host.total - 1, (draw.number, apart)


def test_slots_share_one_cache_where_that_leaves_room_for_more_layers() -> None:
    goal, small = Goal(ctx=4096, kv_type="f16", parallel=2), machine(9, 64)
    plan = make_plan(facts("gemma3-12b"), small, goal)
    apart = make_plan(facts("gemma3-12b"), small, replace(goal, pins={"kvu": "off"}))
    assert plan.assignment.kv_unified
    assert "-kvu" in plan.argv
    assert "-kvu" not in apart.argv
    assert next(d for d in plan.decisions if d.flag == "-kvu").cost.endswith("less")
    assert plan.predicted.session_s < apart.predicted.session_s / 1.03


def test_a_short_trained_context_caps_the_default_and_says_so() -> None:
    model = replace(facts("llama-8b"), n_ctx_train=16384)
    plan = make_plan(model, machine(24, 64), Goal())
    assert plan.assignment.ctx == 16384
    assert "trained on 16384" in next(d for d in plan.decisions if d.flag == "-c").reason


def test_a_cgroups_limit_counts_when_it_is_below_the_free_memory() -> None:
    roomy = machine(0, 64)
    tight = replace(roomy, ram=replace(roomy.ram, limit_mib=9000))
    assert make_plan(facts("llama-8b"), tight, Goal()).memory.host.total <= 9000
    with pytest.raises(Infeasible):
        make_plan(facts("devstral-24b"), tight, Goal())


def test_two_cards_are_both_filled_within_their_own_budgets() -> None:
    hardware = machine(12, 64, gpus=2)
    hardware = replace(hardware, devices=(hardware.devices[0], replace(hardware.devices[1], free_mib=7000)))
    plan = make_plan(facts("devstral-24b"), hardware, Goal())
    assert all(use.weights > 0 for use in plan.memory.devices)
    assert all(use.total <= mib for use, mib in zip(plan.memory.devices, plan.budget.devices, strict=True))


def test_experts_go_to_ram_before_whole_blocks() -> None:
    a = plan_of(facts("qwen35moe-35b-a3b"), machine(12, 64))
    assert a.ngl == 41
    assert a.ncmoe > 0
    assert not a.nkvo


def test_the_articles_own_case_is_beaten() -> None:
    """35B-A3B hybrid, IQ3, 12 GB card, 64k: against -ngl 30 -nkvo, on a build that scans the state on the card."""
    from llmstack.gguf import GgmlType
    from llmstack.plan import read_facts
    from support.planner import shapes

    model = read_facts(shapes.qwen35moe_35b(q=GgmlType.IQ3_S).header())
    hardware = machine(12, 32)
    ours = make_plan(model, hardware, Goal(ctx=65536, kv_type=KV))
    article = Search(model, hardware, Goal(), {}).score(
        replace(ours.assignment, ngl=30, nkvo=True, ncmoe=0, ubatch=512, batch=2048, load_mode="mmap")
    )
    assert ours.predicted.prefill_tps > 1.5 * article.predicted.prefill_tps
    assert ours.predicted.decode_tps > 2 * article.predicted.decode_tps
    other = next(other for other in ours.alternatives if "-ngl N -nkvo" in other.why)
    assert other.predicted.session_s > ours.predicted.session_s


def test_every_departure_is_explained_and_the_command_line_is_explicit() -> None:
    plan = make_plan(facts("qwen35moe-35b-a3b"), machine(12, 64), Goal())
    line = plan.argv
    said = {d.flag for d in plan.decisions}
    for flag in (
        "-c",
        "-np",
        "-ngl",
        "-ncmoe",
        "-ctk",
        "-ctv",
        "-fa",
        "-b",
        "-ub",
        "-lm",
        "-cram",
        "-ctxcp",
        "-t",
        "-n",
    ):
        assert flag in line
        assert flag in said
    assert line[line.index("--fit") + 1] == "off"
    assert all(d.reason for d in plan.decisions)


@pytest.mark.parametrize(("vram", "chosen"), [(8, False), (24, True)])
def test_a_sliding_window_s_whole_history_is_a_trade_that_is_told_with_its_memory(vram: float, chosen: bool) -> None:
    plan = make_plan(facts("gemma3-12b"), machine(vram, 32), Goal(kv_type="q4_0"))
    assert ("--swa-full" in plan.argv) is chosen
    other = next(other for other in plan.alternatives[:3] if "--swa-full" in other.why)
    assert ("--swa-full" in other.argv) is not chosen
    # 40 of 48 blocks have a window of 1,024 cells, and a micro-batch more; q4_0 takes 18 bytes for 32 values.
    more = 40 * 2 * 2048 * 18 // 32 * (65536 - 1024 - plan.assignment.ubatch) / 2**20
    assert f"({more:,.0f} MiB {'less' if chosen else 'more'} cache)" in other.why
