"""A plan beside what llama.cpp chooses itself, and beside what the user's own binary reports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from llmstack.errors import NotSo
from llmstack.llama_server.flags import flag_of
from llmstack.plan.assignment import Assignment
from llmstack.plan.facts import ModelFacts
from llmstack.plan.memory import MemoryPlan
from llmstack.plan.result import Plan
from llmstack.plan.search import Search
from llmstack.plan.speed import Predicted

FIT_FIELDS = ("ctx", "parallel", "kv_unified", "type_k", "type_v")  # of the plan; the placement is left open
WEIGHTS_MIB = 1.0
COMPUTE_MIB, COMPUTE_PART = 16.0, 0.03
_BLOCK = re.compile(r"^blk\\\.(\d+)\\\.ffn_\(?([a-z_|]+?)\)?(?:_\(ch\|\)exps|\.\*|_exps)?$")


@dataclass(frozen=True, slots=True)
class FitComparison:
    flags: tuple[str, ...]
    fit: Predicted
    ours: Predicted
    verdict: str


@dataclass(frozen=True, slots=True)
class Checked:
    """One figure: MiB planned and reported; ok within the accuracy that the planner promises."""

    device: str
    part: str
    planned: float
    reported: int
    ok: bool


class Reported(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def model(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def compute(self) -> int: ...


def fit_flags_wanted(plan: Plan) -> tuple[str, ...]:
    """The arguments for `llama-fit-params`: the plan's context and cache, its placement left open."""
    pairs = (flag_of(field).words(getattr(plan.assignment, field)) for field in FIT_FIELDS)
    return (*(word for words in pairs for word in words), "-fa", "on")


def read_fit(facts: ModelFacts, flags: Sequence[str], base: Assignment) -> Assignment:
    """The assignment that the printed flags of llama-fit-params stand for.

    Its -ot patterns name single blocks, the last ones first; as many bytes of the first blocks cost the same, so
    bytes are counted (a part of a block as its share of matrices). Raises NotSo for flags that cannot be read.
    """
    ngl, overrides, split = facts.n_layer_all + 1, "", base.split
    for flag, value in pairwise(flags):
        if flag == "-ngl":
            ngl = int(value) if int(value) >= 0 else facts.n_layer_all + 1
        elif flag == "-ot":
            overrides = value.strip('"')
        elif flag == "-ts":
            split = tuple(float(part) for part in value.split(","))
    bytes_of = [block.experts if facts.moe else block.dense for block in facts.blocks]
    moved = 0.0  # bytes
    for pattern in filter(None, overrides.split(",")):
        match = _BLOCK.match(pattern.partition("=")[0])
        if match is None:
            raise NotSo(f"llama-fit-params printed an override that cannot be compared: {pattern}")
        kinds = set(match[2].split("|"))
        il = int(match[1])
        if il < facts.n_layer_all and not facts.blocks[il].draft:
            moved += bytes_of[il] * (
                1.0 if {"up", "down", "gate"} <= kinds else len(kinds & {"up", "down", "gate"}) / 3
            )
    start = max(facts.n_layer_all + 1 - ngl, 0)
    count = 0
    for il in range(start, facts.n_layer_all):
        if moved < bytes_of[il] or moved <= 0:
            break  # a part of a block is counted in its favour: it stays on the GPU
        moved -= bytes_of[il]
        count = il + 1 if bytes_of[il] else count
    if facts.moe:
        return replace(base, ngl=ngl, ncmoe=count, ncffn=0, nkvo=False, split=split)
    return replace(base, ngl=ngl, ncffn=count, ncmoe=0, nkvo=False, split=split)


def compare(plan: Plan, flags: Sequence[str]) -> FitComparison:
    """Scores the flags of llama-fit-params with this planner's speed model, at llama.cpp's own batch sizes."""
    search = Search(plan.facts, plan.hardware, plan.goal, {})
    base = replace(
        plan.assignment, ubatch=512, batch=2048, load_mode="mmap", draft_max=0, drafter=False, swa_full=False
    )
    theirs = search.score(read_fit(plan.facts, flags, base)).predicted
    part = theirs.session_s / plan.predicted.session_s - 1
    verdict = f"this plan takes {part / (1 + part):.0%} less time" if part > 0.005 else "no difference"
    if part < -0.005:
        verdict = f"--fit takes {-part:.0%} less time, by the same model"
    return FitComparison(tuple(flags), theirs, plan.predicted, verdict)


def check(memory: MemoryPlan, devices: Sequence[Reported], host: Reported) -> tuple[Checked, ...]:
    """Planned against reported, line by line, for the devices in order and for RAM."""
    rows: list[Checked] = []
    for use, report in (*zip(memory.devices, devices, strict=False), (memory.host, host)):
        for part, planned, reported, allowed in (
            ("weights", use.weights, report.model, WEIGHTS_MIB),
            ("context", use.context, report.context, WEIGHTS_MIB),
            ("compute", use.compute, report.compute, max(COMPUTE_MIB, COMPUTE_PART * report.compute)),
        ):
            rows.append(Checked(report.name, part, planned, reported, abs(planned - reported - 0.5) <= allowed + 0.5))
    return tuple(rows)
