"""A header that only nearly describes a model is planned or refused, and nothing else: no NaN where a count belongs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmstack.errors import StackError
from llmstack.gguf import GgufError
from llmstack.gguf.header import HeaderValue
from llmstack.plan.facts import read_facts
from llmstack.plan.goal import Goal
from llmstack.plan.make import make_plan
from support.planner import shapes
from support.planner.bad_headers import bad_header
from support.planner.draws import machine

HEADER = shapes.llama_8b().header()


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_any_nearly_good_header_is_read_or_refused(first: int) -> None:
    for seed in range(first, first + 500):
        try:
            read_facts(bad_header(seed))
        except GgufError as error:
            assert "\x1b" not in str(error), seed


@pytest.mark.parametrize("seed", range(5000, 5020))
def test_what_was_read_is_planned_or_refused(seed: int) -> None:
    try:
        plan = make_plan(read_facts(bad_header(seed)), machine(12, 64), Goal())
    except StackError:
        return
    assert plan.argv


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.5, -1, "x", (float("nan"),), ("x",)])
@pytest.mark.parametrize("key", ["block_count", "embedding_length", "attention.head_count", "context_length"])
def test_a_count_that_is_none_is_named(key: str, value: HeaderValue) -> None:
    header = replace(HEADER, values={**HEADER.values, f"llama.{key}": value})
    with pytest.raises(GgufError, match=f"llama.{key}"):
        read_facts(header)


@pytest.mark.parametrize("name", ["\x1b]52;c;eA==\x07", "a b", "x" * 65, "é"])
def test_an_architecture_that_is_no_name_is_refused_and_shown_in_escapes(name: str) -> None:
    header = replace(HEADER, values={**HEADER.values, "general.architecture": name})
    with pytest.raises(GgufError) as caught:
        read_facts(header)
    assert "names no architecture" in str(caught.value) and "\x1b" not in str(caught.value)
