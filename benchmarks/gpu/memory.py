"""The plan's memory beside what the engine and the driver say: by cache type, context and placement; and with others
on the card, whether plans keep within it and how much more context would really have fitted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.gpu.bed import Bed
from benchmarks.gpu.models import Model, chosen, ready
from benchmarks.gpu.results import Cell, Row
from llmstack.errors import NotSo
from llmstack.hardware import Hardware
from llmstack.plan import Goal, Infeasible, ModelFacts, make_plan
from llmstack.plan.assignment import Assignment
from llmstack.plan.memory import Estimator, MemoryUse

KV_TYPES = ("f16", "q8_0", "q4_0")
CONTEXTS = {False: (8192, 65536), True: (1024,)}  # by whether the models are small
PLACEMENTS: dict[str, dict[str, Any]] = {
    "all on the card": {},
    "half": {"half": True},
    "cache in RAM": {"nkvo": True},
    "feed-forward in RAM": {"in_ram": True},
    "wide batches": {"ubatch": 2048},
}
FREE_GIB = {False: (8, 12, 16, 24), True: (1, 2)}
STEPS = (1.03, 1.06, 1.10, 1.15, 1.25, 1.5)  # of the longest planned context
PROMPT = {False: 2100, True: 300}  # tokens, longer than a micro-batch: the largest graph has run


def assignment(facts: ModelFacts, ctx: int, kv: str, placement: dict[str, Any]) -> Assignment:
    top = facts.n_layer_all + 1
    more: dict[str, Any] = {key: value for key, value in placement.items() if key not in ("half", "in_ram")}
    if placement.get("in_ram"):
        more["ncmoe" if facts.moe else "ncffn"] = facts.n_layer // 2
    ngl = top // 2 if placement.get("half") else top
    return Assignment(ctx=ctx, ngl=ngl, type_k=kv, type_v=kv, has_gpu=True, devices=(), **more)


def cells(bed: Bed) -> Iterator[Cell]:
    if bed.device is None:
        return
    for model in chosen(bed):
        for ctx in CONTEXTS[bed.small]:
            for kv in KV_TYPES if ctx == CONTEXTS[bed.small][0] else KV_TYPES[-1:]:
                for name in PLACEMENTS if kv == KV_TYPES[-1] else tuple(PLACEMENTS)[:1]:
                    key = f"{model.name} {ctx} {kv} {name}"
                    yield Cell(key, partial(_one, bed, model, ctx, kv, name), 10 if bed.small else 45)
        for gib in FREE_GIB[bed.small]:
            if gib * 1024 <= bed.device.total_mib:
                key = f"{model.name} with {gib} GiB free"
                yield Cell(key, partial(_squeezed, bed, model, gib), 20 if bed.small else 120)


def _one(bed: Bed, model: Model, ctx: int, kv: str, placement: str) -> Row:
    with ready(bed, model) as facts:
        a = replace(assignment(facts, ctx, kv, PLACEMENTS[placement]), devices=_names(bed.hardware))
        planned = _planned(bed, facts, a)
        room = bed.device.free_mib if bed.device is not None else 0
        if planned.total > room:
            return {"left_out": f"{planned.total:.0f} MiB are planned, {room} are free"}
        return {"planned": _parts(planned), **_measured(bed, facts, a)}


def _squeezed(bed: Bed, model: Model, gib: int) -> Row:
    """The product's own plan on a card with so much free, its longest context, and the longest that really runs."""
    with ready(bed, model) as facts, bed.with_free(gib * 1024) as hardware:
        try:
            plan = make_plan(facts, hardware, Goal(kv_type="q4_0"))
        except Infeasible as error:
            return {"infeasible": error.reason}
        longest = _longest(bed, facts, hardware, plan.assignment)
        at_longest = replace(plan.assignment, ctx=longest)
        row: Row = {
            "argv": " ".join(plan.argv[2:]), "ctx": plan.assignment.ctx, "longest": longest,
            "planned": _parts(_planned(bed, facts, at_longest)), "free_mib": hardware.devices[0].free_mib,
        }  # fmt: skip
        row |= _measured(bed, facts, at_longest)
        row["runs"] = {"1.00": True}
        if not bed.limited:
            row["unlimited"] = "nothing could hold the rest of its memory"
            return row
        for step in STEPS:
            runs = False
            with suppress(NotSo):
                _measured(bed, facts, replace(at_longest, ctx=int(longest * step) // 256 * 256))
                runs = True
            row["runs"][f"{step:.2f}"] = runs
            if not runs:
                break
        return row


def _measured(bed: Bed, facts: ModelFacts, a: Assignment) -> Row:
    """What the engine holds once it has read a prompt. Raises NotSo when it does not start or does not answer."""
    before = bed.free_mib()
    with bed.started(facts, a) as (client, pid):
        loaded = bed.held(pid)
        client.complete([5, 6, 7] * (min(PROMPT[bed.small], a.ctx - 64) // 3), n_predict=4)
        after = bed.free_mib()
        grown = bed.held(pid)
    used = before - after if before is not None and after is not None else None
    return {"loaded": loaded, "grown": grown, "card": used}


def _longest(bed: Bed, facts: ModelFacts, hardware: Hardware, a: Assignment) -> int:
    """Tokens: the longest context with which this placement keeps the card's budget."""
    room = hardware.devices[0].free_mib
    most = facts.n_ctx_train or 1 << 20
    low, high = a.ctx // 256, max(most // 256, a.ctx // 256)
    while low < high:
        middle = (low + high + 1) // 2
        if _planned(bed, facts, replace(a, ctx=middle * 256)).total <= room:
            low = middle
        else:
            high = middle - 1
    return low * 256


def _planned(bed: Bed, facts: ModelFacts, a: Assignment) -> MemoryUse:
    estimator = Estimator(facts, bed.hardware.devices, cpu_flags=bed.hardware.cpu.flags)
    return estimator.estimate(a).devices[0]


def _names(hardware: Hardware) -> tuple[str, ...]:
    return tuple(device.id for device in hardware.devices if device.id)


def _parts(use: MemoryUse) -> Row:
    parts = {"weights": use.weights, "context": use.context, "compute": use.compute, "other": use.other}
    return {**{name: round(mib, 1) for name, mib in parts.items()}, "total": round(use.total, 1)}
