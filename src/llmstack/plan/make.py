"""From a model, a machine and a goal to a plan with its reasons, or to an honest refusal."""

from __future__ import annotations

from dataclasses import replace

from llmstack.errors import BadInput
from llmstack.hardware import Hardware
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment
from llmstack.plan.facts import Facts
from llmstack.plan.goal import DEFAULT_CONTEXT, DEFAULT_KV, Goal
from llmstack.plan.pins import read_pins
from llmstack.plan.reasons import alternatives, decisions, notes
from llmstack.plan.result import Infeasible, Plan, model_json
from llmstack.plan.search import Found, Search

SMALLER_CONTEXTS = (49152, 32768)  # tried, and said, when nobody asked for a context and 64k does not fit
BETTER_KV = ("f16", "q8_0")  # preferred over q4_0 where they cost next to nothing
FREE_GAIN = 1.01


def make_plan(facts: Facts, hardware: Hardware, goal: Goal) -> Plan:
    """The fastest plan within the budgets.

    Raises Infeasible when there is none, BadInput for pins that cannot be.
    """
    goal, fixed = read_pins(goal, facts)
    if "split" in fixed and len(fixed["split"]) != len(hardware.devices):
        raise BadInput(f"-ts names {len(fixed['split'])} shares, the machine has {len(hardware.devices)} GPUs")
    if fixed.get("nkvo") and not hardware.devices:
        raise BadInput("-nkvo is pinned, but there is no GPU to keep the cache from")
    search = Search(facts, hardware, goal, fixed)
    if search.no_drafter and (fixed.get("drafter") or (fixed.get("draft_max") and not facts.n_draft)):
        raise BadInput(f"{goal.draft.name if goal.draft else ''} cannot guess ahead here", why=search.no_drafter)
    slots = fixed.get("parallel", 1)
    wanted = fixed.get("ctx") or min(DEFAULT_CONTEXT, facts.n_ctx_train or DEFAULT_CONTEXT) * slots
    smaller = (ctx * slots for ctx in SMALLER_CONTEXTS)
    contexts = (wanted,) if "ctx" in fixed else (wanted, *(ctx for ctx in smaller if ctx < wanted))
    for ctx in contexts:
        found = _choose_kv(search, ctx)
        if found is not None:
            return _plan(search, found, wanted)
    raise _refusal(search, wanted)


def _choose_kv(search: Search, ctx: int) -> Found | None:
    """q4_0, unless a finer cache is as fast: the finest of those within 1 % of the best time."""
    fixed = search.fixed
    start_k = fixed.get("type_k") or _default_kv(search.facts)
    start_v = fixed.get("type_v") or _default_kv(search.facts)
    best = search.best(ctx, start_k, start_v)
    if best is None or "type_k" in fixed or "type_v" in fixed:
        return best
    found = [(kind, search.best(ctx, kind, kind)) for kind in BETTER_KV if kind != start_k]
    limit = min([best.cost, *(other.cost for _, other in found if other is not None)]) * FREE_GAIN
    for _, other in found:
        if other is not None and other.cost <= limit:
            return other
    return best


def _default_kv(facts: Facts) -> str:
    width = min((b.head_dim for b in facts.blocks if b.k_width), default=32)
    return DEFAULT_KV if width % 32 == 0 else "f16"


def _plan(search: Search, found: Found, wanted: int) -> Plan:
    return Plan(
        facts=search.facts,
        hardware=search.hardware,
        goal=search.goal,
        assignment=found.assignment,
        memory=found.memory,
        budget=search.budget,
        predicted=found.predicted,
        decisions=decisions(search, found, wanted),
        argv=flags(search.facts, found.assignment, search.goal),
        alternatives=alternatives(search, found),
        notes=notes(search, found, wanted),
    )


def _refusal(search: Search, ctx: int) -> Infeasible:
    """Names the budget that fails and the smallest change that would do."""
    facts, fixed = search.facts, search.fixed
    model = model_json(facts)
    placed = {
        key: fixed[key] for key in ("ngl", "ncmoe", "ncffn", "nkvo", "split", "draft_max", "drafter") if key in fixed
    }
    if placed:
        free = Search(facts, search.hardware, search.goal, {k: v for k, v in fixed.items() if k not in placed})
        if _feasible(free, ctx):
            names = ", ".join(f"{key}={value}" for key, value in placed.items())
            return Infeasible(
                f"the pinned {names} does not fit: {_shortage(search, ctx)}",
                "leave the pin out: a plan without it exists",
                model=model,
            )
    largest = _largest_context(search, ctx)
    if largest:
        nearest = f"--ctx {largest} fits"
    else:
        nearest = f"{_need(search, ctx)}, or a smaller model or quantisation"
    return Infeasible(
        f"{facts.name} with {ctx} tokens of context does not fit this machine: {_shortage(search, ctx)}",
        nearest,
        model=model,
    )


def _feasible(search: Search, ctx: int) -> bool:
    kind_k = search.fixed.get("type_k") or _default_kv(search.facts)
    return search.feasible(ctx, kind_k, search.fixed.get("type_v") or kind_k)


def _smallest(search: Search, ctx: int) -> Assignment:
    kind_k = search.fixed.get("type_k", _default_kv(search.facts))
    kind_v = search.fixed.get("type_v", _default_kv(search.facts))
    base = Assignment(ctx=ctx, ngl=0, type_k=kind_k, type_v=kind_v, has_gpu=bool(search.hardware.devices))
    return replace(base, **search.fixed)


def _shortage(search: Search, ctx: int) -> str:
    memory = search.estimator.estimate(_smallest(search, ctx))
    for device, use, mib in zip(search.hardware.devices, memory.devices, search.budget.devices, strict=True):
        if use.total > mib:
            return f"{device.name} would need {use.total:.0f} MiB and {mib} MiB may be used"
    return (
        f"with as much as possible on the GPU, RAM still lacks room; "
        f"all of it in RAM needs {memory.host.total:.0f} MiB and {search.budget.ram} MiB may be used"
    )


def _need(search: Search, ctx: int) -> str:
    memory = search.estimator.estimate(_smallest(search, ctx))
    gpu = sum(search.budget.devices)
    more = max(memory.host.total - search.budget.ram - gpu, memory.host.other + 256)
    return f"about {more / 1024:.1f} GiB more RAM or VRAM"


def _largest_context(search: Search, ctx: int) -> int:
    low, high = 0, max(ctx // 1024 - 1, 0)
    while low < high:
        middle = (low + high + 1) // 2
        if _feasible(search, middle * 1024):
            low = middle
        else:
            high = middle - 1
    return low * 1024
