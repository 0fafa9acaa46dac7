"""Distances of distributions, intervals and tasks: what they say of answers that are known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.bench.quality.distributions import apart
from llmstack.bench.quality.intervals import Interval, of_mean, of_share
from llmstack.bench.quality.tasks import Message, all_tasks


def distribution(*shares: float) -> dict[int, float]:
    return {token: math.log(share) for token, share in enumerate(shares)}


def test_the_same_distribution_is_not_apart_at_all() -> None:
    one = distribution(0.6, 0.3, 0.05)
    assert apart(one, one).kl == pytest.approx(0, abs=1e-12) and apart(one, one).same


def test_the_distance_is_kullback_leibler_s_over_the_likeliest_and_all_others_as_one() -> None:
    p, q = distribution(0.5, 0.4), distribution(0.25, 0.6)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.4 * math.log(0.4 / 0.6) + 0.1 * math.log(0.1 / 0.15)
    assert apart(p, q).kl == pytest.approx(expected)
    assert not apart(p, q).same


def test_a_token_that_the_other_does_not_show_counts_with_the_least_likelihood_shown() -> None:
    assert apart({1: math.log(0.9)}, {2: math.log(0.8), 3: math.log(0.01)}).kl > 0.9 * math.log(0.9 / 0.02)


@given(st.integers(0, 300), st.integers(1, 300))
def test_a_share_lies_in_its_interval_and_both_in_0_to_1(good: int, bad: int) -> None:
    interval = of_share(good, good + bad)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_more_samples_make_an_interval_narrower_and_two_apart() -> None:
    few, many = of_share(9, 10), of_share(900, 1000)
    assert many.high - many.low < (few.high - few.low) / 5
    assert many.apart_from(of_share(800, 1000)) and not few.apart_from(of_share(8, 10))
    assert of_share(0, 0) == Interval(0.0, 0.0, 1.0, 0)


def test_a_mean_of_equal_samples_has_no_spread_and_one_of_a_long_tail_has_more_above() -> None:
    assert of_mean([0.5] * 50) == Interval(0.5, 0.5, 0.5, 50)
    tail = of_mean([0.01] * 95 + [1.0] * 5)
    assert tail.low < tail.value < tail.high and tail.high - tail.value > 0


def perfect(messages: Sequence[Message], tool: dict[str, Any]) -> dict[str, Any] | None:
    """Reads the question as a person would."""
    text, name = messages[0]["content"], tool["function"]["name"]
    if name == "set_mode":
        _, level, _, mode, _, _, target = text.replace("Call set_mode: ", "").replace(",", "").rstrip(".").split()
        return {"level": int(level), "mode": mode, "target": {"name": target}}
    if name == "report_code":
        key = text.rsplit(" ", 1)[1].rstrip(".")
        return {"code": text.split(f"The code of {key} is ", 1)[1][:8]}
    if name == "edit_file":
        old, new = text.split("`")[1], text.split("`")[3]
        return {"old": old, "new": new}
    said = messages[-1]["content"] or ""
    return {"page": int("".join(c for c in said.split(",", 1)[0].split("page", 1)[1] if c.isdigit()))}


def test_whoever_answers_right_gets_every_task_right_and_whoever_does_not_none() -> None:
    tasks = all_tasks((100, 400), 4, 4.0)
    assert {task.kind for task in tasks} == {"schema", "copy 100", "copy 400", "edit", "loop"} and len(tasks) == 20
    assert all(task.run(perfect) for task in tasks)
    assert not any(task.run(lambda messages, tool: None) for task in tasks)
    assert not any(task.run(lambda messages, tool: {}) for task in tasks)


def test_the_tasks_are_the_same_each_time_and_a_depth_s_text_is_shared() -> None:
    asked: list[list[str]] = [[], []]
    for run in asked:
        for task in all_tasks((200,), 3, 4.0):
            task.run(lambda messages, tool, run=run: run.append(json.dumps(list(messages))))  # type: ignore[misc]
    assert asked[0] == asked[1]
    copies = [text for text in asked[0] if "report_code" in text]
    assert len({text[:600] for text in copies}) == 1
