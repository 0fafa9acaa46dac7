"""From a plan's argument list back to its assignment: what a deployed stack's speed is predicted from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmstack.plan.argv import FLAGS_WITHOUT_VALUE
from llmstack.plan.assignment import Assignment
from llmstack.plan.pins import find_pin


def assignment_of(argv: Sequence[str], *, has_gpu: bool) -> Assignment:
    """Reads the flags that `plan.argv.flags` writes; others are passed over. ValueError for a value that cannot be."""
    values: dict[str, Any] = {}
    words = list(argv)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        pin = find_pin(word) if word.startswith("-") else None
        if pin is not None and not pin.field.startswith("goal:"):
            values[pin.field] = pin.read("on" if word in FLAGS_WITHOUT_VALUE else following)
    return replace(Assignment(ctx=values.pop("ctx", 4096), ngl=values.pop("ngl", 0), has_gpu=has_gpu), **values)
