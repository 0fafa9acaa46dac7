"""The long answer about one flag: what it does, why this value, and what other values would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmstack.errors import BadInput
from llmstack.plan.assignment import Assignment
from llmstack.plan.pins import find_pin
from llmstack.plan.result import Plan
from llmstack.plan.search import GUESSES, Search

ABOUT = {
    "-c": "Tokens of context, prompt and answer together, for all slots. The cache grows with it; it is never "
    "shortened silently.",
    "-np": "Slots: conversations answered at the same time. Each gets an equal part of -c.",
    "-kvu": "One cache for all slots. Sliding windows then share one batch of spare cells, but every conversation's "
    "attention passes over the others' cells, and the mask grows with -np.",
    "-ngl": "How many layers are on the GPU. llama.cpp counts the output first and then the blocks from the last "
    "one, so N means the output and the last N-1 blocks. A block in RAM is read whole for every token.",
    "-ncmoe": "Keeps the experts of the first N blocks in RAM; attention, cache and shared experts stay on the GPU. "
    "A token reads only the experts it is routed to, so this costs far less than whole blocks in RAM.",
    "-ncffn": "Keeps the feed-forward weights of the first N blocks in RAM; attention and cache stay on the GPU.",
    "-nkvo": "Keeps the cache in RAM. Attention still runs on the GPU, so each block's whole live cache crosses the "
    "bus at every step; a recurrent state is then updated by the CPU.",
    "-ctk": "The type of the cache. q4_0 takes 4.5 bits a value, q8_0 8.5, f16 16. Without a GPU, threads read f16 in "
    "tiles and a quantised cache row by row: a long prompt then takes several times as long.",
    "-ctv": "The type of the cache's values; a pair of two different types has no fast kernel.",
    "-b": "The most tokens that are handed to the model at once; at least -ub.",
    "-ub": "How many prompt tokens one pass computes. Weights in RAM cross to the GPU once per pass, so a larger "
    "one reads a long prompt faster and takes larger buffers.",
    "-lm": "How weights get into memory: mmap maps the file, none reads it (into pinned memory where a GPU is).",
    "-cram": "RAM for the prompts of other conversations. llama-server takes 8192 MiB unless told otherwise, and "
    "no estimate of its own counts it.",
    "-ctxcp": "Checkpoints of the state per slot. A recurrent or windowed cache cannot be rolled back, so a changed "
    "prompt goes back to the last one. They come on top of -cram.",
    "--swa-full": "Keeps the whole history of sliding-window blocks. Without it a saved prompt cannot be restored "
    "after a restart: llama-server reads it again.",
    "-ts": "The share of the layers that each GPU gets.",
    "-t": "CPU threads. More than physical cores wait for the same memory.",
    "--spec-draft-n-max": "How many tokens the file's own prediction block, or a second model, guesses ahead; one pass "
    "checks them all.",
    "-md": "A small model with the same vocabulary that guesses ahead (speculative decoding). It has a cache of its "
    "own for the whole context and reads every prompt too.",
    "-n": "The most tokens of one answer.",
    "-rea": "Whether the model thinks before it answers.",
}
_ALIASES = {"--spec-type": "--spec-draft-n-max"}


@dataclass(frozen=True, slots=True)
class Row:
    """One other value: MiB of the fullest device and of RAM, tokens/s, and whether the budgets are kept."""

    value: str
    vram_mib: float
    ram_mib: float
    prefill_tps: float
    decode_tps: float
    session_s: float
    fits: bool
    chosen: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    flag: str
    about: str
    value: str
    reason: str
    cost: str
    rows: tuple[Row, ...]


def explain(plan: Plan, name: str) -> Explanation:
    """Raises BadInput when the flag is none that a plan decides."""
    bare = name if name.startswith("-") else f"-{name}"
    pin = find_pin(name)
    flag = pin.flag if pin else _ALIASES.get(bare, bare)
    made = next((d for d in plan.decisions if d.flag == flag), None)
    if flag not in ABOUT and made is None:
        known = ", ".join(ABOUT)
        raise BadInput(f"a plan does not decide {name}", next=f"one of {known}")
    rows: tuple[Row, ...] = ()
    if pin is not None and not pin.field.startswith("goal:"):
        rows = _rows(plan, pin.field)
    return Explanation(
        flag=flag,
        about=ABOUT.get(flag, ""),
        value=made.value if made else "not set",
        reason=made.reason if made else "not needed here: the default does nothing",
        cost=made.cost if made else "",
        rows=rows,
    )


def _rows(plan: Plan, field: str) -> tuple[Row, ...]:
    search = Search(plan.facts, plan.hardware, plan.goal, {})
    rows = []
    for value in _values(plan, field):
        a = replace(plan.assignment, **{field: value})
        if field in ("draft_max", "drafter"):
            a = _guessing(a, field, by_model=search.estimator.drafter is not None and not plan.facts.n_draft)
        if field == "type_k":
            a = replace(a, type_v=value)
        if field == "ubatch":
            a = replace(a, batch=max(a.batch, value))
        rows.append(_row(search, a, _shown(value), a == plan.assignment))
    return tuple(rows)


def _guessing(a: Assignment, field: str, *, by_model: bool) -> Assignment:
    """How many tokens are guessed and by what belong together: neither is asked for without the other."""
    if field == "draft_max":
        return replace(a, drafter=by_model and a.draft_max > 0)
    return replace(a, draft_max=(a.draft_max or GUESSES[1]) if a.drafter else 0)


def _row(search: Search, a: Assignment, shown: str, chosen: bool) -> Row:
    found = search.score(a)
    return Row(
        shown,
        max((use.total for use in found.memory.devices), default=0.0),
        found.memory.host.total,
        found.predicted.prefill_tps,
        found.predicted.decode_tps,
        found.cost,
        search.fits(a),
        chosen,
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _values(plan: Plan, field: str) -> Sequence[Any]:
    """The value chosen, among a few others worth seeing."""
    a, n = plan.assignment, plan.facts.n_layer_all
    chosen = getattr(a, field)
    if field in ("ncmoe", "ncffn") and (field == "ncmoe") != plan.facts.moe:
        return ()
    if field == "drafter" and plan.goal.draft is None:
        return ()
    if isinstance(chosen, bool):
        return (False, True)
    near = sorted({0, *(a.ncmoe + a.ncffn + step for step in (-4, -1, 1, 4)), n})
    options: dict[str, Sequence[Any]] = {
        "ctx": (8192, 16384, 32768, 65536, 131072, 262144),
        "parallel": (1, 2, 4),
        "ngl": sorted({0, n // 4, n // 2, 3 * n // 4, n, n + 1}),
        "ncmoe": near,
        "ncffn": near,
        "type_k": ("f16", "q8_0", "q4_0"),
        "type_v": (),
        "batch": (),
        "ubatch": (256, 512, 1024, 2048, 4096),
        "load_mode": ("mmap", "none"),
        "cache_ram_mib": (0, 2048, 8192),
        "checkpoints": (0, 8, 32),
        "draft_max": (0, 1, 2, 3, 4),
    }
    values = options.get(field, ())
    if not values:
        return values
    if isinstance(chosen, int):
        return sorted({value for value in (*values, chosen) if 0 <= value <= (n + 1 if field == "ngl" else 1 << 30)})
    return values if chosen in values else (*values, chosen)
