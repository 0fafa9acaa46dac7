"""Files that only guess ahead: what each kind is known by, whom it fits, and what a plan makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from llmstack.errors import BadInput
from llmstack.gguf.writer import I32
from llmstack.plan import Goal, make_plan, read_facts
from llmstack.plan.assignment import Assignment
from llmstack.plan.drafting import acceptance, draft_lengths
from llmstack.plan.facts import ModelFacts
from llmstack.plan.memory import Estimator
from llmstack.plan.rates import RATES
from llmstack.plan.speed import Speed
from support.planner import companions, shapes
from support.planner.draws import machine

CARD = machine(24, 64, card="RTX 3090")


def facts_of(shape: shapes.Shape, path: str = "/models/second.gguf") -> ModelFacts:
    return read_facts(shape.header(), path=path)


def head_of_27b() -> ModelFacts:
    return facts_of(companions.mtp_head(shapes.qwen35_27b(mtp=True)))


LARGE_27B = facts_of(shapes.qwen35_27b(), "/models/large.gguf")


@pytest.mark.parametrize(
    ("make", "spec_type", "called"),
    [
        (companions.eagle3, "draft-eagle3", "EAGLE-3"),
        (companions.dflash, "draft-dflash", "DFlash"),
        (companions.gemma_head, "draft-mtp", "file of its own"),
        (lambda: companions.mtp_head(shapes.qwen35moe_35b(mtp=True)), "draft-mtp", "file of its own"),
    ],
    ids=["eagle3", "dflash", "gemma", "block"],
)
def test_its_kind_is_read_from_its_header(make: Callable[[], shapes.Shape], spec_type: str, called: str) -> None:
    companion = facts_of(make()).companion
    assert companion is not None
    assert companion.spec_type == spec_type and called in companion.called


def test_a_model_that_answers_is_none() -> None:
    assert facts_of(shapes.qwen35_27b(mtp=True)).companion is None
    assert facts_of(shapes.qwen2_05b()).companion is None


def test_a_prediction_head_has_its_own_block_only_and_no_recurrent_state() -> None:
    head = head_of_27b()
    assert len(head.blocks) == 1 and not head.recurrent and head.n_draft == 0
    assert head.blocks[0].k_width == 4 * 256


def test_a_gemma_head_has_no_cache() -> None:
    assert all(block.k_width == 0 for block in facts_of(companions.gemma_head()).blocks)


def test_one_for_another_model_is_left_out_and_refused_when_pinned() -> None:
    second = facts_of(companions.eagle3(target=4096))
    plan = make_plan(LARGE_27B, CARD, Goal(draft=second))
    assert plan.assignment.model_guesses == 0
    with pytest.raises(BadInput, match="cannot guess ahead here") as error:
        make_plan(LARGE_27B, CARD, Goal(draft=second, pins={"md": "on"}))
    assert error.value.why == "it was made for a model of width 4096, this one has 5120"


def test_one_that_reads_blocks_which_a_model_lacks_is_refused() -> None:
    companion = facts_of(companions.eagle3((2, 30, 60))).companion
    assert companion is not None
    assert companion.why_not(2048, 32) == "it reads block 60 of a model, this one has 32"
    assert companion.why_not(2048, 60) == ""


def test_a_large_models_plan_takes_its_head_and_says_what_it_is() -> None:
    plan = make_plan(LARGE_27B, CARD, Goal(draft=head_of_27b()))
    assert plan.assignment.model_guesses > 0
    at = plan.argv.index("--spec-type")
    assert plan.argv[at : at + 4] == ("--spec-type", "draft-mtp", "-md", "/models/second.gguf")
    reasons = {decision.flag: decision.reason for decision in plan.decisions}
    assert reasons["-md"] == "a prediction (MTP) head in a file of its own"


def test_its_recurrent_state_is_kept_for_each_guess() -> None:
    estimator = Estimator(LARGE_27B, CARD.devices, drafter=head_of_27b())
    a = Assignment(ctx=32768, ngl=LARGE_27B.n_layer_all + 1, drafter=True)
    one, three = (estimator.estimate(replace(a, draft_max=count)).devices[0].context for count in (1, 3))
    state = 4 * (LARGE_27B.state_r + LARGE_27B.state_s) * 48 / 2**20
    assert three - one == pytest.approx(2 * state)


def test_the_same_head_in_the_file_and_beside_it_writes_about_as_fast() -> None:
    inside = facts_of(shapes.qwen35_27b(mtp=True))
    both = []
    for facts, drafter in ((inside, None), (LARGE_27B, head_of_27b())):
        goal = Goal(draft=drafter)
        estimator = Estimator(facts, CARD.devices, drafter=drafter)
        speed = Speed(facts, CARD, estimator, fitted=replace(RATES, **acceptance(goal)))
        a = Assignment(ctx=32768, ngl=facts.n_layer_all + 1, draft_max=2, drafter=drafter is not None)
        both.append(1 / speed.token_s(a, 8192))
    assert both[0] == pytest.approx(both[1], rel=0.1)


def test_a_block_of_guesses_takes_two_passes_however_long_it_is() -> None:
    large, second = facts_of(companions.dense_target()), facts_of(companions.dflash())
    speed = Speed(large, CARD, Estimator(large, CARD.devices, drafter=second))
    a = Assignment(ctx=8192, ngl=large.n_layer_all + 1, drafter=True)
    times = {speed._guessing_s(replace(a, draft_max=count), 1000) for count in (2, 4, 6)}
    assert len(times) == 1


def test_it_is_never_asked_for_more_than_it_was_trained_to_guess() -> None:
    assert draft_lengths(facts_of(companions.dflash(block=4))) == (1, 2, 3)
    assert draft_lengths(facts_of(companions.eagle3())) == draft_lengths(None)
    assert draft_lengths(head_of_27b()) == (1, 2, 3)  # as a block in the file


def test_what_the_large_model_hands_over_is_counted() -> None:
    """Three blocks' inputs: a ubatch of rows on the card, a batch of rows in RAM."""
    large, second = facts_of(companions.dense_target()), facts_of(companions.eagle3())
    estimator = Estimator(large, CARD.devices, drafter=second)
    a = Assignment(ctx=32768, ngl=large.n_layer_all + 1, ubatch=512, batch=2048, draft_max=2, drafter=True)
    alone = estimator.drafter
    assert alone is not None
    both, one = (
        estimator.estimate_draft_model(a),
        alone.estimate(replace(a, draft_max=0, drafter=False, type_k="f16", type_v="f16")),
    )
    assert both.devices[0].compute - one.devices[0].compute == pytest.approx(3 * 4 * 512 * 2048 / 2**20)
    assert both.host.other - one.host.other == pytest.approx(3 * 4 * 2048 * 2048 / 2**20)


@pytest.mark.parametrize("reads", [[1] * 2000, ["one", "two", "three"], [-1, 70000, 3]])
def test_a_header_that_lies_about_what_it_reads_is_bounded(reads: list[object]) -> None:
    shape = companions.eagle3()
    metadata = {**shape.metadata, "eagle3.target_layers": I32(reads) if isinstance(reads[0], int) else reads}
    companion = facts_of(replace(shape, metadata=metadata)).companion  # type: ignore[arg-type]
    assert companion is not None and len(companion.reads) <= 1024
    assert all(0 <= il < 1 << 16 for il in companion.reads)
