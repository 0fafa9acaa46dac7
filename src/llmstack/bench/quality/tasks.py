"""Tool calls with one right answer each: a schema kept, a value copied from far back, a file edited, a loop of calls.

Forced calls, so that what is scored is what the model writes into them; a model that is asked freely is the upgrade's
matter. Deterministic: the same seed, temperature 0.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmstack.workload import agent_prompt

Message = dict[str, Any]
Ask = Callable[[Sequence[Message], dict[str, Any]], dict[str, Any] | None]  # messages, tool -> the call's arguments


@dataclass(frozen=True, slots=True)
class Task:
    """kind: what it is counted under. run: asks, and says whether all came out exactly."""

    kind: str
    run: Callable[[Ask], bool]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def all_tasks(depths: Sequence[int], each: int, characters_per_token: float, seed: int = 1) -> list[Task]:
    """`each` of every kind; copying from each of these depths (tokens)."""
    rng = random.Random(seed)
    tasks = [_schema(rng) for _ in range(each)]
    for depth in depths:
        text = agent_prompt(int(depth * characters_per_token * 0.9), seed + depth)
        tasks += _copies(rng, depth, text, each)
    tasks += [_edit(rng) for _ in range(each)]
    tasks += [_loop(rng) for _ in range(each)]
    return tasks


def _schema(rng: random.Random) -> Task:
    level, mode, name = (
        rng.randrange(2, 90),
        rng.choice(("fast", "slow", "safe")),
        rng.choice(("alpha", "beta", "gamma")),
    )
    setting = tool(
        "set_mode",
        level={"type": "integer"},
        mode={"type": "string", "enum": ["fast", "slow", "safe"]},
        target={"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    )
    question = user(f"Call set_mode: level {level}, mode {mode}, target name {name}.")
    right = {"level": level, "mode": mode, "target": {"name": name}}
    return Task("schema", lambda ask: ask([question], setting) == right)


def _copies(rng: random.Random, depth: int, text: str, each: int) -> list[Task]:
    """Codes at the very start of one long text, so that all of a depth share its reading."""
    codes = {f"K{rng.randrange(100, 999)}": f"{rng.getrandbits(32):08x}" for _ in range(each)}
    head = "".join(f"The code of {key} is {code}.\n" for key, code in codes.items())
    report = tool("report_code", code={"type": "string"})

    def task(key: str, code: str) -> Task:
        question = user(f"{head}\n{text}\n\nCall report_code with the code of {key}.")
        return Task(f"copy {depth}", lambda ask: ask([question], report) == {"code": code})

    return [task(key, code) for key, code in codes.items()]


def _edit(rng: random.Random) -> Task:
    names = rng.sample(("limit", "width", "depth", "speed", "count", "share", "retries", "timeout"), 6)
    lines = [f"{name} = {rng.randrange(10, 99)}" for name in names]
    old = lines[rng.randrange(len(lines))]
    new = f"{old.split(' ')[0]} = {rng.randrange(100, 999)}"
    edit = tool("edit_file", old={"type": "string"}, new={"type": "string"})
    listing = "\n".join(lines)
    question = user(f"settings.py:\n{listing}\n\nCall edit_file to replace the line `{old}` by the line `{new}`.")

    def run(ask: Ask) -> bool:
        call = ask([question], edit)
        wish = listing.replace(old, new, 1)
        return (
            call is not None and bool(call.get("old")) and listing.replace(call["old"], call.get("new", ""), 1) == wish
        )

    return Task("edit", run)


def _loop(rng: random.Random) -> Task:
    """Three calls, each with the number that the result of the one before named."""
    numbers = [rng.randrange(1000, 9999) for _ in range(4)]
    follow = tool("open_page", page={"type": "integer"})

    def run(ask: Ask) -> bool:
        messages = [user(f"Open page {numbers[0]}, then the page that each result names, one call at a time.")]
        for here, following in itertools.pairwise(numbers):
            call = ask(messages, follow)
            if call != {"page": here}:
                return False
            made = {"id": f"call_{here}", "type": "function",
                    "function": {"name": "open_page", "arguments": json.dumps(call)}}  # fmt: skip
            messages += [
                {"role": "assistant", "content": None, "tool_calls": [made]},
                {"role": "tool", "tool_call_id": f"call_{here}", "content": f"Go on with page {following}."},
            ]
        return True

    return Task("loop", run)
