"""The long answer about one flag: what it does, why this value, and what other values would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmstack.errors import BadInput
from llmstack.llama_server.flags import FLAGS, flag_named, pinnable_flag
from llmstack.plan.assignment import Assignment
from llmstack.plan.drafting import DRAFT_LENGTHS
from llmstack.plan.result import Plan
from llmstack.plan.search import Search

_EXPLAINED_WITH = {"--spec-type": "--spec-draft-n-max"}


@dataclass(frozen=True, slots=True)
class OtherValue:
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
    rows: tuple[OtherValue, ...]


def explain(plan: Plan, name: str) -> Explanation:
    """Raises BadInput when the flag is none that a plan decides."""
    dashed = name if name.startswith("-") else f"-{name}"
    pinnable = pinnable_flag(name)
    flag = pinnable or flag_named(_EXPLAINED_WITH.get(dashed, dashed))
    decision = next((d for d in plan.decisions if flag is not None and d.flag == flag.name), None)
    if flag is None or not (flag.pinnable or decision):
        decided = ", ".join(flag.name for flag in FLAGS if flag.pinnable)
        raise BadInput(f"a plan does not decide {name}", next=f"one of {decided}")
    return Explanation(
        flag=flag.name,
        about=flag.about,
        value=decision.value if decision else "not set",
        reason=decision.reason if decision else "not needed here: the default does nothing",
        cost=decision.cost if decision else "",
        rows=_rows(plan, pinnable.field) if pinnable and pinnable.field else (),
    )


def _rows(plan: Plan, field: str) -> tuple[OtherValue, ...]:
    search = Search(plan.facts, plan.hardware, plan.goal, {})
    if field == "drafter" and search.estimator.drafter is None:
        return ()  # there is none, or it cannot be used here: the reason says why
    rows = []
    for value in _values(plan, field):
        a = replace(plan.assignment, **{field: value})
        if field in ("draft_max", "drafter"):
            a = _drafting(a, field, by_model=search.estimator.drafter is not None and not plan.facts.n_draft)
        if field == "type_k":
            a = replace(a, type_v=value)
        if field == "ubatch":
            a = replace(a, batch=max(a.batch, value))
        rows.append(_row(search, a, _shown(value), a == plan.assignment))
    return tuple(rows)


def _drafting(a: Assignment, field: str, *, by_model: bool) -> Assignment:
    """How many tokens are drafted, and by what, belong together: neither is asked for without the other."""
    if field == "draft_max":
        return replace(a, drafter=by_model and a.draft_max > 0)
    return replace(a, draft_max=(a.draft_max or DRAFT_LENGTHS[1]) if a.drafter else 0)


def _row(search: Search, a: Assignment, shown: str, chosen: bool) -> OtherValue:
    candidate = search.score(a)
    return OtherValue(
        shown,
        max((use.total for use in candidate.memory.devices), default=0.0),
        candidate.memory.host.total,
        candidate.predicted.prefill_tps,
        candidate.predicted.decode_tps,
        candidate.cost,
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
