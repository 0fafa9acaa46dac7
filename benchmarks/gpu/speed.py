"""The plan's speeds beside what is measured: our placement, --fit's and an article's, in turn; one flag at a time; and
the rates fitted to some models, judged on others."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.gpu.bed import Bed
from benchmarks.gpu.cuda import Driver, NoDriver
from benchmarks.gpu.models import Model, chosen, ready
from benchmarks.gpu.results import Cell, Row, read
from llmstack.bench.depths import Effort, measure
from llmstack.bench.sample import Sampler, unpaced
from llmstack.detect.dry_run import fit_params
from llmstack.engine.find import YOUNGER_FLAG
from llmstack.plan import Goal, Infeasible, ModelFacts, make_plan
from llmstack.plan.assignment import Assignment
from llmstack.plan.calibrate import Observation, fit, predict_s
from llmstack.plan.compare import fit_flags_wanted, read_fit
from llmstack.plan.result import Plan

DEPTHS = {False: (512, 8192, 32768), True: (128, 512)}
CONTEXT = {False: 65536, True: 2048}
CHUNK = {False: 512, True: 64}
EFFORT = {False: Effort(3, 48, 40.0), True: Effort(1, 8, 0.8)}
PATIENCE_S = {False: 3.0, True: 0.0}  # of all waiting for quiet
FEW_FLAGS = ("-ub 128", "q8_0", "-nkvo", "MTP 1", "ngram-mod")  # for the suite
VARIED = {False: 4, True: 1}  # models whose flags are varied one at a time
ROUNDS = {False: 3, True: 1}
ONE_FLAG: dict[str, dict[str, Any]] = {
    "-ub 128": {"ubatch": 128},
    "-ub 512": {"ubatch": 512},
    "-ub 2048": {"ubatch": 2048},
    "f16": {"type_k": "f16", "type_v": "f16"},
    "q8_0": {"type_k": "q8_0", "type_v": "q8_0"},
    "q4_0": {"type_k": "q4_0", "type_v": "q4_0"},
    "-lm mmap": {"load_mode": "mmap"},
    "-lm none": {"load_mode": "none"},
    "-nkvo": {"nkvo": True},
    "MTP 1": {"draft_max": 1},
    "MTP 2": {"draft_max": 2},
    "MTP 3": {"draft_max": 3},
    "ngram-mod": {"ngram_max": 64},
    "--moe-cache-mib 2048": {"moe_cache_mib": 2048},
}


def cells(bed: Bed) -> Iterator[Cell]:
    yield Cell("link", _link, 30)
    for model in chosen(bed):
        for number in range(ROUNDS[bed.small]):
            for way in ("ours", "fit", "article"):
                yield Cell(f"{model.name} {way} {number}", partial(_placed, bed, model, way), 10 if bed.small else 100)
    for model in chosen(bed)[: VARIED[bed.small]]:
        for name in ONE_FLAG if not bed.small else FEW_FLAGS:
            yield Cell(f"{model.name} {name}", partial(_varied, bed, model, name), 10 if bed.small else 90)
    yield Cell("fitted", partial(_fitted, bed), 30)


def _link() -> Row:
    try:
        driver = Driver(0)
        return {"pinned_gbps": driver.to_device_gbps(pinned=True), "pageable_gbps": driver.to_device_gbps(pinned=False)}
    except NoDriver as error:
        return {"left_out": f"no NVIDIA driver: {error}"}


def _plan(bed: Bed, facts: ModelFacts) -> Plan:
    ctx = min(CONTEXT[bed.small], facts.n_ctx_train or CONTEXT[bed.small])
    return make_plan(facts, bed.hardware, Goal(ctx=ctx, reasoning="auto"))


def _placed(bed: Bed, model: Model, way: str) -> Row:
    with ready(bed, model) as facts:
        try:
            plan = _plan(bed, facts)
        except Infeasible as error:
            return {"infeasible": error.reason}
        a = plan.assignment
        if way == "fit":
            assert bed.engine.folder is not None
            given = [*bed.engine.command[1:], *fit_flags_wanted(plan)]  # the stand-in's --rpc comes with the command
            chosen = fit_params(bed.engine.folder / "llama-fit-params", ["-m", facts.path, *given])
            a = read_fit(
                facts, chosen, replace(a, ubatch=512, batch=2048, load_mode="mmap", draft_max=0, drafter=False)
            )
        elif way == "article":
            a = replace(a, ngl=min(30, a.ngl or 30), nkvo=True, ncmoe=0, ncffn=0, ubatch=512, batch=2048, draft_max=0)
        return _speeds(bed, facts, a)


def _varied(bed: Bed, model: Model, name: str) -> Row:
    with ready(bed, model) as facts:
        changes = ONE_FLAG[name]
        if "draft_max" in changes and not facts.n_draft:
            return {"left_out": "its file has no prediction block"}
        if "ngram_max" in changes and (facts.recurrent or facts.has_window):
            return {"left_out": "its state cannot be rolled back"}
        if "moe_cache_mib" in changes and (not facts.moe or YOUNGER_FLAG not in (bed.engine.flags or ())):
            return {"left_out": "no experts, or an engine without it"}
        try:
            a = _plan(bed, facts).assignment
        except Infeasible as error:
            return {"infeasible": error.reason}
        if "moe_cache_mib" in changes:
            a = replace(a, ncmoe=max(a.ncmoe, facts.n_layer // 2))
        changed = replace(a, **changes)
        return _speeds(bed, facts, replace(changed, batch=max(changed.batch, changed.ubatch)))


def _speeds(bed: Bed, facts: ModelFacts, a: Assignment) -> Row:
    depths = tuple(depth for depth in DEPTHS[bed.small] if depth + 1024 < a.ctx_slot) or DEPTHS[bed.small][:1]
    with bed.started(facts, a) as (client, pid):
        sampler = Sampler([pid], patience_s=PATIENCE_S[bed.small], pace=None if bed.stand_in else unpaced)
        seen = measure(client, sampler, depths, EFFORT[bed.small], lambda _: None, chunk=CHUNK[bed.small])
    row: Row = {"assignment": _settings(a), "chunk": seen.chunk, "speeds": []}
    for decode, metrics in ((False, seen.prefill), (True, seen.decode)):
        for depth, metric in metrics.items():
            tokens = 1 if decode else seen.chunk
            seconds = predict_s(facts, bed.hardware, a, decode=decode, tokens=tokens, depth=depth)
            row["speeds"].append({
                "what": "decode" if decode else "prefill", "depth": depth, "median": round(metric.median, 2),
                "low": round(metric.low, 2), "high": round(metric.high, 2), "planned": round(tokens / seconds, 2),
            })  # fmt: skip
    return row


def _fitted(bed: Bed) -> Row:
    """The rates that explain the models that are fitted to, and how far off they are on the others."""
    rows = {row["key"]: row for row in read(bed.out, "speed")["rows"]}
    seen: list[Observation] = []
    unseen: list[tuple[str, Observation, float]] = []
    for model in chosen(bed):
        for key, row in rows.items():
            if not key.startswith(f"{model.name} ") or "speeds" not in row:
                continue
            with ready(bed, model) as facts:
                a = _assignment(row["assignment"])
                for speed in row["speeds"]:
                    decode = speed["what"] == "decode"
                    tokens = 1 if decode else row["chunk"]
                    o = Observation(facts, a, decode, tokens, speed["depth"], tokens / speed["median"])
                    if model.seen:
                        seen.append(o)
                    else:
                        unseen.append((key, o, speed["planned"]))
    machine = fit(bed.hardware, seen, engine=bed.engine.name)
    judged = []
    for key, o, before in unseen:
        after = o.tokens / predict_s(o.facts, machine, o.assignment, decode=o.decode, tokens=o.tokens, depth=o.depth)
        measured = o.tokens / o.seconds
        judged.append({
            "key": key, "what": "decode" if o.decode else "prefill", "depth": o.depth, "measured": round(measured, 2),
            "before": round(before, 2), "after": round(after, 2),
        })  # fmt: skip
    device = machine.devices[0] if machine.devices else None
    rates = {} if device is None else {
        "bandwidth_gbps": device.bandwidth_gbps, "compute_tflops": device.compute_tflops, "link_gbps": device.link_gbps,
    }  # fmt: skip
    return {"fitted_to": len(seen), "rates": rates, "judged": judged, "off": _errors(judged)}


def _errors(judged: list[Row]) -> Row:
    """Medians of how far off the unseen ones are, before and after the fit."""
    if not judged:
        return {}
    off = {when: [abs(row[when] / row["measured"] - 1) for row in judged] for when in ("before", "after")}
    return {when: round(statistics.median(values), 3) for when, values in off.items()}


def _settings(a: Assignment) -> Row:
    return {name: getattr(a, name) for name in a.__dataclass_fields__}


def _assignment(row: Row) -> Assignment:
    fields: Row = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Assignment(**fields)
