"""From a plan's argument list back to its assignment: what a deployed stack's speed is predicted from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmstack.llama_server.flags import pinnable_flag
from llmstack.plan.assignment import Assignment


def assignment_of(argv: Sequence[str], *, has_gpu: bool) -> Assignment:
    """Reads the flags that `plan.argv.flags` writes; others are passed over. ValueError for a value that cannot be."""
    values: dict[str, Any] = {}
    words = list(argv)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag = pinnable_flag(word) if word.startswith("-") else None
        if flag is not None and flag.field:
            values[flag.field] = flag.kind.read(following if flag.takes_value else "on")
    return replace(Assignment(ctx=values.pop("ctx", 4096), ngl=values.pop("ngl", 0), has_gpu=has_gpu), **values)
