"""Compute buffers against llama-server 11434's own report, where which holes a tensor fits decides.

Each row is a cell of the oracle matrix (docs/planner.md) with the MiB that llama-server reported for the GPU, or for
RAM; formulas that counted rows alone were over by up to 374 MiB in them.
"""

from __future__ import annotations

from typing import Any

import pytest

from llmstack.hardware import Device
from llmstack.plan import Goal, Infeasible, Plan, make_plan
from llmstack.plan.assignment import Assignment
from llmstack.plan.compute import MAMBA_SPREAD, SPREAD, compute_of
from llmstack.plan.memory import Estimator
from support.planner.cells import Cell, assignment
from support.planner.draws import NAMES, draws, facts

RPC = (Device("RPC0", "RPC", 24000, 24000),)
REPORTED = [
    (Cell("devstral-24b", "f16", 8192, 2, 2048, "gpu"), "GPU", 944),
    (Cell("devstral-24b", "f16", 8192, 2, 2048, "experts"), "GPU", 944),
    (Cell("gemma3-12b", "f16", 8192, 2, 2048, "experts"), "GPU", 492),
    (Cell("gemma4-26b-a4b", "f16", 8192, 2, 2048, "experts"), "GPU", 430),
    (Cell("gemma4-31b", "f16", 8192, 1, 2048, "experts"), "GPU", 684),
    (Cell("gpt-oss-20b", "f16", 8192, 2, 2048, "experts"), "GPU", 369),
    (Cell("granite-hybrid-32b-a9b", "f16", 8192, 2, 2048, "experts"), "GPU", 628),
    (Cell("granite-hybrid-32b-a9b", "q4_0", 8192, 1, 512, "nkvo"), "GPU", 159),
    (Cell("nemotron-h-9b", "f16", 8192, 1, 2048, "experts"), "GPU", 594),
    (Cell("nemotron-h-9b", "f16", 131072, 1, 2048, "partial"), "GPU", 662),
    (Cell("nemotron-h-moe-30b-a3b", "f16", 8192, 2, 2048, "experts"), "GPU", 327),
    (Cell("nemotron-h-moe-30b-a3b", "f16", 8192, 2, 2048, "partial"), "GPU", 274),
    (Cell("qwen35-27b", "f16", 8192, 1, 2048, "experts"), "GPU", 568),
    (Cell("qwen35moe-35b-a3b", "f16", 8192, 2, 2048, "experts"), "GPU", 336),
    (Cell("qwen3moe-30b-a3b", "f16", 131072, 1, 2048, "experts"), "RAM", 576),
]


@pytest.mark.parametrize(("cell", "where", "reported"), REPORTED, ids=lambda value: str(value))
def test_a_compute_buffer_is_what_the_allocators_holes_make_of_it(cell: Cell, where: str, reported: int) -> None:
    model = facts(cell.shape)
    memory = Estimator(model, RPC).estimate(assignment(model, cell))
    use = memory.host if where == "RAM" else memory.devices[0]
    assert 0 <= use.compute - reported < 4


@pytest.mark.parametrize("name", NAMES)
def test_placements_of_one_kind_differ_by_less_than_the_factors_that_the_search_relies_on(name: str) -> None:
    model = facts(name)
    n, field = model.n_layer, "ncmoe" if model.moe else "ncffn"
    estimator = Estimator(model, RPC)

    def per_token(start: int, in_ram: int, ubatch: int, kind: str, **more: Any) -> float:
        fields = {field: in_ram} if in_ram else {}
        base = {"ctx": 32768, "ngl": model.n_layer_all + 1 - start, "batch": 4096, "ubatch": ubatch}
        a = Assignment(**{**base, "type_k": kind, "type_v": kind, **fields, **more})
        return estimator.estimate(a).devices[0].compute / ubatch

    for starts in ((0,), (5, 6, n // 2)):
        for in_ram in (False, True):
            placed = [(s, k) for s in starts for k in ((s + 1, s + 2, s + 7, n - 2) if in_ram else (0,)) if k < n]
            kinds = {False: (("f16", 512), ("q4_0", 512), ("q4_0", 4096)), True: (("q4_0", 2048),)}
            for nkvo in (False, True):
                found = [per_token(*place, u, kind, nkvo=nkvo) for place in placed for kind, u in kinds[nkvo]]
                limit = (MAMBA_SPREAD if model.architecture.mamba2 else SPREAD)[nkvo]
                assert max(found) / min(found) < limit, (starts, in_ram, nkvo)


def test_a_planner_that_was_used_before_plans_as_a_fresh_one() -> None:
    sample = list(draws(12, seed=3))

    def plans() -> list[Plan | str]:
        made: list[Plan | str] = []
        for draw in sample:
            try:
                made.append(make_plan(draw.facts, draw.hardware, Goal(ctx=draw.ctx)))
            except Infeasible as error:
                made.append(str(error))
        return made

    warmed = plans()
    sample.reverse()
    compute_of.cache_clear()
    reversed_order = plans()
    for number, draw in enumerate(sample):
        compute_of.cache_clear()
        try:
            fresh: Plan | str = make_plan(draw.facts, draw.hardware, Goal(ctx=draw.ctx))
        except Infeasible as error:
            fresh = str(error)
        assert fresh == reversed_order[number] == warmed[len(sample) - 1 - number]
