"""Whether Claude Code's first request fits is said wherever a context is chosen or looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmstack.catalog.models import Model
from llmstack.fetch.survey import SurveyRow, recommended
from llmstack.plan import Goal, make_plan
from llmstack.plan.client_room import CLAUDE_CODE, first_request, needed, too_small
from support.planner.draws import facts, machine


def test_a_context_of_eight_thousand_is_too_small_and_the_sentence_has_both_figures() -> None:
    sentence = too_small(8192)
    assert "8,192 tokens" in sentence and "12,900" in sentence and "Prompt is too long" in sentence


def test_what_takes_the_first_request_a_turn_and_its_answers_is_enough() -> None:
    least = needed(first_request())
    assert too_small(least) == "" and too_small(least - 1)


@pytest.mark.parametrize(
    ("version", "measured"), [((2, 1, 329), (2, 1, 197)), ((2, 2, 0), (2, 1, 332)), ((2, 0, 5), (2, 1, 197))]
)
def test_an_installed_version_counts_as_the_newest_measured_one_before_it(
    version: tuple[int, ...], measured: tuple[int, ...]
) -> None:
    assert first_request(version).version == measured
    assert [one.version for one in CLAUDE_CODE] == sorted(one.version for one in CLAUDE_CODE)


def test_a_plan_of_a_model_trained_on_eight_thousand_tokens_warns() -> None:
    short = replace(facts("llama-8b"), n_ctx_train=8192)
    assert make_plan(short, machine(12, 64), Goal()).warnings == (too_small(8192),)
    assert make_plan(facts("llama-8b"), machine(12, 64), Goal()).warnings == ()


def test_no_model_is_recommended_in_whose_context_the_client_does_not_fit() -> None:
    rows = [
        SurveyRow("short", "Q4_K_M", True, 1, context=8192, decode_tps=90),
        SurveyRow("long", "Q4_K_M", True, 1, context=65536, decode_tps=30),
    ]
    assert recommended(rows, {"short": Model(quality=1), "long": Model(quality=1)}) == "long"
    assert recommended(rows[:1], {"short": Model(quality=1)}) == "short"
