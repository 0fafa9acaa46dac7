"""Guessed tokens that held are counted by the server, kept by model, and known to the next plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmstack.deploy import acceptance
from llmstack.deploy.acceptance import Acceptance, counted
from llmstack.detect.model_file import file_key
from llmstack.paths import Home
from llmstack.paths import home as home_of
from llmstack.plan import Goal, make_plan, read_facts
from support.planner.draws import machine
from support.planner.shapes import qwen35_27b

METRICS = """# HELP llamacpp:spec_decode_num_draft_tokens_total Number of draft tokens.
llamacpp:spec_decode_num_draft_tokens_total 1000
llamacpp:spec_decode_num_accepted_tokens_total 648
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 300
"""


def test_the_servers_counters_are_read_and_others_are_not() -> None:
    assert counted(METRICS) == (1000, 648)
    assert counted("llamacpp:prompt_tokens_total 5") == (0, 0)


@pytest.mark.parametrize("each", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("length", [1, 3, 6])
def test_the_likelihood_of_each_guess_follows_from_the_share_that_held(each: float, length: int) -> None:
    held = sum(each**n for n in range(1, length + 1)) / length
    seen = Acceptance("m", 10_000, round(10_000 * held), length, False, 0.0)
    assert seen.each == pytest.approx(each, abs=0.01)


def test_what_was_seen_of_a_file_is_told_of_that_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path))
    home: Home = home_of()
    home.make()
    file = tmp_path / "m.gguf"
    file.write_bytes(b"x")
    seen = Acceptance(file_key(str(file)), 1000, 648, 4, False, 0.0)
    acceptance.write_private(home.state / "acceptance.json", acceptance.msgspec.json.encode([seen]))
    assert acceptance.of_model(home, str(file), by_model=False) == seen.each
    assert acceptance.of_model(home, str(file), by_model=True) is None
    file.write_bytes(b"another file now")
    assert acceptance.of_model(home, str(file), by_model=False) is None


def test_a_plan_counts_on_what_was_seen_and_says_so() -> None:
    model = read_facts(qwen35_27b(mtp=True).header())
    few, many = (make_plan(model, machine(24, 64), Goal(ctx=16384, accepts_block=each)) for each in (0.2, 0.9))
    assert few.assignment.draft_max < many.assignment.draft_max
    assert many.predicted.decode_tps > few.predicted.decode_tps
    assert any("90% of the first guesses held" in decision.cost for decision in many.decisions)
    plain = make_plan(model, machine(24, 64), Goal(ctx=16384))
    assert any("if 7 of 10 guesses hold" in decision.cost for decision in plain.decisions)
    assert replace(plain.goal, accepts_block=0.9) == many.goal
