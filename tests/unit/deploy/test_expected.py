"""What the deployed plan expects, and which part of the machine it computes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmstack.deploy.expected_speed import ExpectedSpeed
from llmstack.hardware import Hardware
from llmstack.plan.assignment import Assignment
from support.planner.draws import facts, machine

CARD = machine(24, 64)
WHOLE = Assignment(ctx=65536, ngl=99)


@pytest.mark.parametrize(
    ("shape", "hardware", "assignment", "expected"),
    [
        ("llama-8b", CARD, WHOLE, False),
        ("llama-8b", CARD, replace(WHOLE, ngl=20), True),
        ("llama-8b", CARD, replace(WHOLE, nkvo=True), True),
        ("llama-8b", CARD, replace(WHOLE, ncffn=4), True),
        ("qwen3moe-30b-a3b", CARD, replace(WHOLE, ncmoe=12), True),
        ("llama-8b", replace(CARD, devices=()), replace(WHOLE, ngl=0), True),
    ],
)
def test_the_processors_compute_unless_all_of_the_model_is_on_devices(
    shape: str, hardware: Hardware, assignment: Assignment, expected: bool
) -> None:
    assert ExpectedSpeed(facts(shape), hardware, assignment).on_processors is expected
