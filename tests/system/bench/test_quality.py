"""`bench --quality` on a real engine: f16 is told from q8_0 and q4_0, and the next plan knows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.gguf.writer import U32
from support.models import write_model
from support.stack import Stack

pytestmark = pytest.mark.timeout(600)


def test_cache_types_are_told_apart_and_the_plan_knows_it_from_then_on(stack_home: Stack, tmp_path: Path) -> None:
    model = write_model("dense", tmp_path / "dense.gguf", {"qwen3.context_length": U32(2048)})  # one depth is enough
    stack = stack_home.with_model(model)
    stack.up()
    ran = stack.run("bench", "--quality", "--json", timeout_s=540)
    assert ran.status == 0, ran.err
    rows = {row["kind"]: row for row in ran.json["kinds"]}
    assert list(rows) == ["f16", "q8_0", "q4_0"] == [ran.json["reference"], "q8_0", "q4_0"]
    assert rows["f16"]["kl"]["high"] < 1e-6 and rows["f16"]["same"]["value"] == 1.0
    assert 0 < rows["q8_0"]["kl"]["high"] < rows["q4_0"]["kl"]["low"]
    assert set(rows["q4_0"]["tasks"]) >= {"schema", "edit", "loop", "all"}
    planned = stack.run("plan", str(tmp_path / "dense.gguf"), "--json").json
    harm = {cache["type"]: cache["harm"] for cache in planned["cache_types"]}
    assert "measured here" in harm["q4_0"]["source"] and harm["q4_0"]["kl"][1] == rows["q4_0"]["kl"]["high"]
    assert stack.run("status", "--json").json["state"] == "ready"


def test_without_a_stack_or_with_half_an_option_it_says_what_to_do(stack_home: Stack, tmp_path: Path) -> None:
    ran = stack_home.run("bench", "--quality")
    assert ran.status == 1 and "no deployed model" in ran.err
    file = tmp_path / "other.gguf"
    file.touch()
    ran = stack_home.run("bench", "--against", str(file))
    assert ran.status == 2 and "--against belongs to --quality" in ran.err
