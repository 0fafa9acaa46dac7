"""Large inputs by seed: a good request, or a model's text, of which something is repeated until it is megabytes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from support.fuzz.bodies import contents, good, items

MOST = 6 << 20  # bytes of one input
PATHS = {
    "/v1/messages": lambda dice: good(dice, openai=False),
    "/v1/chat/completions": lambda dice: good(dice, openai=True),
    "/v1/responses": lambda dice: items(),
    "/v1beta/models/m:streamGenerateContent?alt=sse": lambda dice: contents(),
}
_MARKS = (
    "<tool_call>", "</tool_call>", "<function=t>", "</function>", "<parameter=a>", "</parameter>", "<think>",
    "</think>", "```", "`", "{", "}", '"', "\\", '{"name":"t","arguments":', "[", "]", "\n", " ", "x", "é", "\u2028",
)  # fmt: skip


def body(seed: int) -> tuple[str, bytes]:
    """The path of an API, and a request of it in which one or two members are repeated."""
    dice = random.Random(seed)
    path = dice.choice(list(PATHS))
    value = PATHS[path](dice)
    places = list(_places(value))
    for _ in range(dice.choice((1, 1, 2))):
        holder, key = dice.choice(places)
        size = max(1, len(json.dumps(holder[key])))
        count = max(1, int(MOST * dice.random() ** 2) // size // 2)
        holder[key] = (
            holder[key] * count if isinstance(holder[key], str | list) else {f"k{n}": holder[key] for n in range(count)}
        )
    data = json.dumps(value).encode()
    return path, data[:MOST] if dice.random() < 0.05 else data


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        if isinstance(inner, str | list | dict) and inner:
            yield value, key
        if isinstance(inner, list | dict):
            yield from _places(inner)


def pieces(seed: int) -> list[str]:
    """A model's text: runs of marks, in pieces of any length."""
    dice = random.Random(seed)
    runs = []
    for _ in range(dice.randrange(1, 6)):
        unit = "".join(dice.choice(_MARKS) for _ in range(dice.randrange(1, 5)))
        runs.append(unit * (int((MOST // 6) * dice.random() ** 3) // len(unit) + 1))
    text, size = "".join(runs), dice.choice((7, 60, 400, 5_000, 1 << 22))
    return [text[start : start + size] for start in range(0, len(text), size)]
