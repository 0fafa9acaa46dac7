"""A second model that guesses ahead: taken where it shortens the session, counted everywhere it takes room."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from llmstack.catalog.models import Model, read_models
from llmstack.catalog.overlay import merge, parse
from llmstack.catalog.shape import describe
from llmstack.errors import BadInput
from llmstack.fetch.survey import drafter_facts
from llmstack.hardware import Hardware
from llmstack.plan import Goal, Infeasible, Plan, make_plan, projector_of_size, read_facts
from llmstack.plan.assignment import Assignment
from llmstack.plan.explain import explain
from llmstack.plan.facts import ModelFacts
from llmstack.plan.memory import Estimator
from llmstack.plan.rates import RATES
from llmstack.plan.result import to_json
from llmstack.plan.search import WORTH, Search
from llmstack.plan.speed import Speed
from support.paths import CATALOG
from support.planner.draws import draws, facts, machine

MODELS = read_models(merge(parse(CATALOG.read_bytes(), CATALOG.name))).models
CODER_14B, CODER_7B = MODELS["qwen2.5-coder-14b"], MODELS["qwen2.5-coder-7b"]


def of(model: Model) -> ModelFacts:
    return read_facts(describe("coder", model, "Q4_K_M"), path="/models/coder.gguf")


def sibling(model: Model = CODER_14B) -> ModelFacts:
    found = drafter_facts(model)
    assert found is not None
    return replace(found, path="/models/small.gguf")


def planned(model: ModelFacts, hardware: Hardware, draft: ModelFacts | None = None, **pins: str) -> Plan:
    named = {name.replace("_", "-"): value for name, value in pins.items()}
    return make_plan(model, hardware, Goal(draft=draft or sibling(), pins=named))


def decided(plan: Plan, flag: str) -> str:
    return next(f"{d.value}: {d.reason} ({d.cost})" for d in plan.decisions if d.flag == flag)


CARD_16 = machine(16, 64, card="RTX 5060 Ti")


def test_a_dense_model_on_a_card_with_room_gets_its_sibling_to_guess_ahead() -> None:
    plan, alone = planned(of(CODER_14B), CARD_16), make_plan(of(CODER_14B), CARD_16, Goal())
    assert plan.assignment.model_guesses > 0
    assert plan.predicted.session_s * WORTH < alone.predicted.session_s
    assert plan.predicted.decode_tps > alone.predicted.decode_tps > 0
    assert plan.predicted.prefill_tps < alone.predicted.prefill_tps  # both models read a prompt
    assert "decode +" in decided(plan, "--spec-type") and "if 6 of 10 guesses hold" in decided(plan, "--spec-type")
    assert "MiB of VRAM" in decided(plan, "-md")
    assert any("restored from disk" in note for note in plan.notes)
    assert to_json(plan)["draft_model"] == "/models/small.gguf"


def test_the_argument_list_names_the_second_model_and_leaves_nothing_to_defaults() -> None:
    given = planned(of(CODER_14B), CARD_16).argv
    at = given.index("--spec-type")
    assert given[at : at + 16] == (
        "--spec-type", "draft-simple", "-md", "/models/small.gguf", "-ngld", "25", "-devd", "CUDA0",
        "-ctkd", "f16", "-ctvd", "f16",
        "--spec-draft-n-max", "3", "--spec-draft-p-min", "0",
    )  # fmt: skip


def test_its_weights_cache_and_buffers_are_added_and_the_process_is_counted_once() -> None:
    model, small = facts("qwen2-14b"), sibling()
    estimator = Estimator(model, CARD_16.devices, drafter=small)
    a = Assignment(ctx=32768, ngl=model.n_layer_all + 1, draft_max=3, drafter=True)
    both = estimator.estimate(a)
    first = estimator.estimate(replace(a, draft_max=0, drafter=False))
    second = estimator.estimate_draft_model(a)
    for part in ("weights", "context", "compute"):
        sums = getattr(first.devices[0], part) + getattr(second.devices[0], part)
        assert getattr(both.devices[0], part) == pytest.approx(sums)
    assert both.devices[0].other == first.devices[0].other
    assert second.devices[0].context == pytest.approx(24 * 2 * 2 * 64 * 2 * 32768 / 2**20)  # f16 K and V, 2 heads of 64
    assert 0 < both.host.other - first.host.other < 2  # one row of its logits


def test_it_is_left_out_where_it_does_not_fit_and_the_reason_is_given() -> None:
    model = of(CODER_14B)
    low, high = 8000, 16000  # MiB of a card that the whole model fits just so
    while high - low > 50:
        middle = (low + high) // 2
        low, high = (low, middle) if fits_alone(model, middle / 1024) else (middle, high)
    plan = planned(model, machine(high / 1024, 64, card="RTX 5060 Ti"))
    assert plan.assignment.model_guesses == 0
    reason = decided(plan, "--spec-type")
    assert reason.startswith("none: ") and "does not guess ahead" in reason
    assert "-md" not in plan.argv


def fits_alone(model: ModelFacts, gib: float) -> bool:
    a = make_plan(model, machine(gib, 64, card="RTX 5060 Ti"), Goal()).assignment
    return a.ngl == model.n_layer_all + 1 and not a.ncffn


def test_experts_in_ram_gain_nothing_from_guesses() -> None:
    """Checking four tokens reads nearly four times the experts."""
    model = facts("qwen3moe-30b-a3b")
    search = Search(model, machine(8, 64), Goal(draft=sibling()), {})
    found = search.best(32768, "q4_0", "q4_0")
    assert found is not None and found.assignment.ncmoe > 0
    assert found.assignment.model_guesses == 0
    more = replace(found.assignment, draft_max=2, drafter=True)
    assert search.score(more).predicted.decode_tps < found.predicted.decode_tps


def test_a_processor_alone_gains_less_than_the_guesses_cost() -> None:
    assert planned(of(CODER_14B), machine(0, 64)).assignment.model_guesses == 0


@pytest.mark.parametrize(
    ("model", "hardware", "goal", "why"),
    [
        (of(CODER_14B), machine(12, 64, gpus=2), Goal(), "several GPUs"),
        (
            of(CODER_14B),
            machine(24, 64),
            Goal(vision=True, projector=projector_of_size(1 << 30, 5120, "/m/mmproj.gguf")),
            "pictures",
        ),
        (facts("qwen35-27b"), machine(24, 64), Goal(), "rolling back"),
        (facts("llama-8b"), machine(24, 64), Goal(), "vocabulary differs by 23680 tokens"),
    ],
)
def test_where_it_cannot_be_used_the_plan_says_why(model: ModelFacts, hardware: Hardware, goal: Goal, why: str) -> None:
    plan = make_plan(model, hardware, replace(goal, draft=sibling()))
    assert plan.assignment.model_guesses == 0
    assert why in decided(plan, "--spec-type")
    with pytest.raises(BadInput, match="cannot guess ahead here"):
        make_plan(model, hardware, replace(goal, draft=sibling(), pins={"md": "on"}))


def test_it_can_be_pinned_on_or_off() -> None:
    off = planned(of(CODER_14B), CARD_16, spec_draft_model="off")
    assert off.assignment.model_guesses == 0 and "pinned by you" in decided(off, "--spec-type")
    assert planned(of(CODER_14B), CARD_16, spec_draft_n_max="0").assignment.model_guesses == 0
    assert planned(of(CODER_14B), CARD_16, spec_draft_n_max="5").assignment.model_guesses == 5
    assert planned(of(CODER_14B), machine(0, 64), md="on").assignment.model_guesses > 0
    assert planned(of(CODER_14B), machine(0, 64), md="/models/small.gguf").assignment.model_guesses > 0
    with pytest.raises(BadInput, match="no smaller model"):
        make_plan(of(CODER_14B), CARD_16, Goal(pins={"md": "on"}))
    with pytest.raises(BadInput, match="on, off or a GGUF file"):
        planned(of(CODER_14B), CARD_16, md="perhaps")


def test_the_long_answer_compares_with_and_without_it() -> None:
    plan = planned(of(CODER_14B), CARD_16)
    rows = {row.value: row for row in explain(plan, "-md").rows}
    assert rows["on"].chosen and not rows["off"].chosen
    assert rows["on"].vram_mib > rows["off"].vram_mib + 700
    assert rows["on"].session_s < rows["off"].session_s
    guesses = {row.value: row for row in explain(plan, "--spec-draft-n-max").rows}
    assert guesses["3"].chosen and guesses["0"].decode_tps == rows["off"].decode_tps


def test_the_long_answer_about_one_that_cannot_be_used_has_no_other_values() -> None:
    plan = make_plan(of(CODER_14B), machine(12, 64, gpus=2), Goal(draft=sibling()))
    assert explain(plan, "-md").rows == ()


def test_no_plan_with_a_second_model_goes_over_its_budgets() -> None:
    """Random machines and dense models, each with a sibling of its own vocabulary."""
    chance, used = random.Random(3), 0
    names = ("qwen2-14b", "qwen3-8b", "llama-8b", "devstral-24b")
    for draw in draws(70, seed=17):
        model = facts(chance.choice(names))
        small = replace(sibling(), n_vocab=model.n_vocab)
        pins = {"md": "on"} if chance.random() < 0.5 and len(draw.hardware.devices) == 1 else {}
        try:
            plan = make_plan(model, draw.hardware, Goal(ctx=draw.ctx, kv_type="q4_0", draft=small, pins=pins))
        except Infeasible:
            continue
        used += plan.assignment.model_guesses > 0
        for use, mib in zip(plan.memory.devices, plan.budget.devices, strict=True):
            assert use.total <= mib, draw.number
        assert plan.memory.host.total <= plan.budget.ram, draw.number
    assert used > 20


@pytest.mark.parametrize(
    ("model", "card", "published", "accepted"),
    [(CODER_14B, "RTX 5060 Ti", 1.37, RATES.accept_drafter), (CODER_7B, "RTX 3090", 1.50, 0.85)],
    ids=["14B on a 5060 Ti", "7B on a 3090"],
)
def test_the_predicted_gain_is_near_two_published_ones(
    model: Model, card: str, published: float, accepted: float
) -> None:
    """docs/planner.md names both; llama.cpp's own draft length where none is given. The second's text was easy."""
    big = of(model)
    hardware = machine(24, 64, card=card)
    fitted = replace(RATES, accept_drafter=accepted)
    speed = Speed(big, hardware, Estimator(big, hardware.devices, drafter=sibling(model)), fitted=fitted)
    a = Assignment(ctx=8192, ngl=big.n_layer_all + 1, type_k="f16", type_v="f16")
    gain = speed.token_s(a, 500) / speed.token_s(replace(a, draft_max=3, drafter=True), 500)
    assert gain == pytest.approx(published, rel=0.25)


def test_a_goal_without_a_second_model_plans_as_before() -> None:
    plan = make_plan(facts("llama-8b"), machine(12, 64), Goal())
    assert not plan.assignment.drafter and all(d.flag != "--spec-type" for d in plan.decisions)
    assert to_json(plan)["draft_model"] is None
