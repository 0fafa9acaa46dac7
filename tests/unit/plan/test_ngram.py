"""Guessing ahead from the conversation's own text: pinned or found by `tune`, never by default, never with pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmstack.errors import BadInput
from llmstack.plan import Goal, make_plan
from llmstack.plan.projector import ProjectorFacts
from support.planner.draws import facts, machine

ENCODER = ProjectorFacts("/m/mmproj-F16.gguf", "qwen3vl_merger", 4096, 840 << 20, 480 << 20, 248 << 20, 4096)
PINNED = Goal(ctx=16384, pins={"spec-ngram-mod-n-max": "64"})


def test_it_is_written_out_with_the_engines_own_lengths_and_costs_16_mib() -> None:
    plan, plain = (make_plan(facts("llama-8b"), machine(24, 64), goal) for goal in (PINNED, replace(PINNED, pins={})))
    words = dict(zip(plan.argv, plan.argv[1:], strict=False))
    assert words["--spec-type"] == "ngram-mod" and words["--spec-ngram-mod-n-max"] == "64"
    assert (words["--spec-ngram-mod-n-min"], words["--spec-ngram-mod-n-match"]) == ("48", "24")
    assert plan.memory.host.total - plain.memory.host.total == pytest.approx(16, abs=0.1)
    assert "--spec-type" not in plain.argv


def test_a_state_that_cannot_be_rolled_back_refuses_it() -> None:
    for model in ("qwen35-27b", "gemma3-12b"):
        with pytest.raises(BadInput, match="recurrent state or a sliding window"):
            make_plan(facts(model), machine(24, 64), PINNED)


def test_pictures_and_guesses_exclude_each_other() -> None:
    plan = make_plan(facts("llama-8b"), machine(24, 64), replace(PINNED, projector=ENCODER))
    assert any(d.flag == "--no-mmproj" and "guesses ahead" in d.reason for d in plan.decisions)
    with pytest.raises(BadInput, match="exclude each other"):
        make_plan(facts("llama-8b"), machine(24, 64), replace(PINNED, projector=ENCODER, vision=True))
