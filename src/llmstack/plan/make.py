"""From a model, a machine and a goal to a plan with its reasons, or to an honest refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmstack.errors import BadInput
from llmstack.hardware import Device, Hardware
from llmstack.plan.argv import flags
from llmstack.plan.assignment import NO_DEVICE, Assignment
from llmstack.plan.client_room import too_small
from llmstack.plan.devices import pinned_devices, with_ids
from llmstack.plan.facts import ModelFacts
from llmstack.plan.goal import DEFAULT_KV, Goal
from llmstack.plan.kv_quality import FINER, NEVER_ON_A_CARD, known_harm, worth
from llmstack.plan.kv_quality import warning as kv_warning
from llmstack.plan.pins import read_pins
from llmstack.plan.reasons import alternatives, decisions, notes
from llmstack.plan.result import CacheChoice, Infeasible, Plan, model_json
from llmstack.plan.search import Candidate, Search
from llmstack.plan.trades import find_trades
from llmstack.plan.training_length import cut_sentence, default_context, slot_tokens, within_training
from llmstack.plan.vision import needs_comparison, why_left_out, with_images, without_images

SMALLER_CONTEXTS = (49152, 32768)  # tried when nobody asked for a context and 64k does not fit


def make_plan(facts: ModelFacts, hardware: Hardware, goal: Goal, spare: Sequence[Device] = ()) -> Plan:
    """The fastest plan within the budgets; with the goal's image encoder where that costs little (plan.vision).

    spare: devices that only a pinned -dev uses.

    Raises Infeasible when there is none, BadInput for pins that cannot be.
    """
    projector = goal.projector
    blind = replace(goal, projector=None, mmproj_path="")
    if projector is None:
        return _make_plan(facts, hardware, blind, spare)
    if goal.vision is False:
        return without_images(
            _make_plan(facts, hardware, blind, spare), "images are not read: left out by you", pinned=True
        )
    if read_pins(goal, facts)[1].get("ngram_max"):
        why = "llama-server cannot read pictures while it guesses ahead, which is pinned (--spec-ngram-mod-n-max)"
        if goal.vision:
            raise BadInput("images and --spec-ngram-mod-n-max exclude each other", why=why, next="give one of the two")
        return without_images(_make_plan(facts, hardware, blind, spare), why, pinned=True)
    images: Plan | Infeasible
    try:
        images = _make_plan(facts, hardware, goal, spare)
        if goal.vision or not needs_comparison(images):
            return with_images(images, pinned=bool(goal.vision))
    except Infeasible as error:
        if goal.vision:
            error.nearest = error.next = f"{error.nearest}; or --no-vision leaves the image encoder out"
            raise
        images = error
    alone = _make_plan(facts, hardware, blind, spare)
    why = why_left_out(projector, images, alone)
    if why or isinstance(images, Infeasible):
        return without_images(alone, why)
    return with_images(images, pinned=False)


def _make_plan(facts: ModelFacts, hardware: Hardware, goal: Goal, spare: Sequence[Device]) -> Plan:
    goal, pinned = read_pins(goal, facts)
    pinned = within_training(pinned, facts)
    hardware = replace(hardware, devices=tuple(with_ids(hardware.devices)))
    if "devices" in pinned and pinned["devices"] == NO_DEVICE:
        if pinned.get("ngl") or "split" in pinned:
            other = f"-ngl {pinned['ngl']}" if pinned.get("ngl") else "-ts"
            raise BadInput(f"-dev none and {other} are both pinned: without a device no layer can be on one")
        pinned = {"ngl": 0} | {field: value for field, value in pinned.items() if field != "devices"}
    elif "devices" in pinned:
        hardware = pinned_devices(hardware, spare, pinned["devices"])
    if "split" in pinned and len(pinned["split"]) != len(hardware.devices):
        raise BadInput(f"-ts names {len(pinned['split'])} shares, the machine has {len(hardware.devices)} GPUs")
    if pinned.get("nkvo") and not hardware.devices:
        raise BadInput("-nkvo is pinned, but there is no GPU to keep the cache from")
    if pinned.get("moe_cache_mib") and not hardware.devices:
        raise BadInput("--moe-cache-mib is pinned, but there is no GPU to hold that cache")
    if hardware.devices and pinned.get("ngl") != 0 and NEVER_ON_A_CARD in (pinned.get("type_k"), pinned.get("type_v")):
        raise BadInput(
            f"a {NEVER_ON_A_CARD} cache has no kernel on a card",
            why="attention would run on the processor, many times slower",
            next="--kv-type q4_0 is as small",
        )
    search = Search(facts, hardware, goal, pinned)
    if search.no_draft_model and (pinned.get("drafter") or (pinned.get("draft_max") and not facts.n_draft)):
        raise BadInput(f"{goal.draft.name if goal.draft else ''} cannot guess ahead here", why=search.no_draft_model)
    slots = pinned.get("parallel", 1)
    n_ctx = pinned.get("ctx") or default_context(pinned, facts) * slots
    smaller = (ctx * slots for ctx in SMALLER_CONTEXTS)
    contexts = (n_ctx,) if "ctx" in pinned else (n_ctx, *(ctx for ctx in smaller if ctx < n_ctx))
    for ctx in contexts:
        choice = _choose_kv(search, ctx)
        if choice is not None:
            return _plan(search, *choice, n_ctx)
    raise _refusal(search, n_ctx)


def _choose_kv(search: Search, ctx: int) -> tuple[Candidate, tuple[Candidate, ...]] | None:
    """The finest cache whose time is worth it (plan.kv_quality), and the best plan of each type that was looked at."""
    pinned = search.pinned
    start_k = pinned.get("type_k") or _default_kv(search.facts)
    start_v = pinned.get("type_v") or _default_kv(search.facts)
    best = search.best(ctx, start_k, start_v)
    if best is None:
        return None
    if "type_k" in pinned or "type_v" in pinned:
        return best, (best,)
    looked = [search.best(ctx, kind, kind) for kind in FINER if kind != start_k]
    finer = [other for other in looked if other is not None]
    fastest = min(other.cost for other in (best, *finer))
    smallest = known_harm(search.facts, search.goal.kv_measured).get(start_k)
    worthy = (o for o in finer if o.cost <= fastest * worth(o.assignment.type_k, smallest))
    return next(worthy, best), (*finer, best)


def _default_kv(facts: ModelFacts) -> str:
    width = min((b.head_dim for b in facts.blocks if b.k_width), default=32)
    return DEFAULT_KV if width % 32 == 0 else "f16"


def _plan(search: Search, chosen: Candidate, caches: Sequence[Candidate], n_ctx: int) -> Plan:
    trades = find_trades(search, chosen)
    return Plan(
        facts=search.facts,
        hardware=search.hardware,
        goal=search.goal,
        assignment=chosen.assignment,
        memory=chosen.memory,
        budget=search.budget,
        predicted=chosen.predicted,
        decisions=decisions(search, chosen, trades, n_ctx),
        argv=flags(search.facts, chosen.assignment, search.goal),
        alternatives=alternatives(search, chosen, trades),
        notes=notes(search, chosen, n_ctx),
        caches=tuple(_cache_choice(search, candidate) for candidate in caches),
        warnings=tuple(
            filter(
                None,
                (
                    cut_sentence(search.goal, search.facts, chosen.assignment),
                    too_small(slot_tokens(search.facts, chosen.assignment)),
                    _cache_warning(search, chosen),
                ),
            )
        ),
    )


def _cache_choice(search: Search, candidate: Candidate) -> CacheChoice:
    kind = candidate.assignment.type_k
    harm = known_harm(search.facts, search.goal.kv_measured).get(kind)
    memory = candidate.memory
    context = memory.host.context + sum(use.context for use in memory.devices)
    return CacheChoice(kind, candidate.predicted, context, harm)


def _cache_warning(search: Search, chosen: Candidate) -> str:
    a = chosen.assignment
    return kv_warning(search.facts, a.type_k, slot_tokens(search.facts, a), search.goal.kv_measured)


def _refusal(search: Search, ctx: int) -> Infeasible:
    """Names the budget that fails and the smallest change that would do."""
    facts, pinned = search.facts, search.pinned
    model = model_json(facts)
    placed = {
        key: pinned[key] for key in ("ngl", "ncmoe", "ncffn", "nkvo", "split", "draft_max", "drafter") if key in pinned
    }
    if placed:
        free = Search(facts, search.hardware, search.goal, {k: v for k, v in pinned.items() if k not in placed})
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
    kind_k = search.pinned.get("type_k") or _default_kv(search.facts)
    return search.feasible(ctx, kind_k, search.pinned.get("type_v") or kind_k)


def _smallest(search: Search, ctx: int) -> Assignment:
    kind_k = search.pinned.get("type_k", _default_kv(search.facts))
    kind_v = search.pinned.get("type_v", _default_kv(search.facts))
    base = Assignment(ctx=ctx, ngl=0, type_k=kind_k, type_v=kind_v, has_gpu=bool(search.hardware.devices))
    return replace(base, **search.pinned)


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
