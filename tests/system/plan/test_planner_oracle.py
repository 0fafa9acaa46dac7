"""The memory model against the real llama.cpp, with a stand-in GPU (tests/support/planner/oracle.py).

Sixty cells here; `python benchmarks/planner/oracle.py` runs all of them. Weights and cache agree within 1 MiB, compute
within 16 MiB or 3 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from llmstack.hardware import Device
from llmstack.plan import Goal, Infeasible, make_plan
from llmstack.plan.assignment import Assignment
from llmstack.plan.compare import Checked, compare, fit_flags_wanted
from llmstack.plan.facts import read_facts
from support.planner import companions, shapes
from support.planner.cells import Bench, Cell, cpu_flags, representative
from support.planner.draws import draws
from support.planner.oracle import Oracle, stand_in_gpus

NAMES = tuple(make().name for make in shapes.ALL)
CELLS = representative(NAMES, 60)
# where the holes of the allocator decide most: counted by rows alone, the worst of each shape was over here
HOLES = [
    Cell("devstral-24b", "f16", 8192, 2, 2048, "gpu"),
    Cell("gemma4-26b-a4b", "f16", 8192, 2, 2048, "experts"),
    Cell("granite-hybrid-32b-a9b", "f16", 8192, 2, 2048, "experts"),
    Cell("granite-hybrid-32b-a9b", "q4_0", 8192, 1, 512, "nkvo"),
    Cell("nemotron-h-9b", "f16", 131072, 1, 2048, "partial"),
    Cell("nemotron-h-moe-30b-a3b", "f16", 8192, 2, 2048, "partial"),
    Cell("qwen35moe-35b-a3b", "f16", 8192, 2, 2048, "experts"),
    Cell("qwen3moe-30b-a3b", "f16", 131072, 1, 2048, "experts"),
]
ADDED = [  # one for each architecture of shapes.ADDED
    Cell("seed-oss-36b", "q8_0", 65536, 2, 2048, "experts"),
    Cell("granite-8b", "q8_0", 65536, 2, 2048, "gpu"),
    Cell("laguna-33b-a3b", "q8_0", 65536, 2, 2048, "gpu"),
]


@pytest.fixture(scope="module")
def oracle(built_engine: Path) -> Iterator[Oracle]:
    with stand_in_gpus(built_engine) as found:
        yield found


@pytest.fixture(scope="module")
def bench(oracle: Oracle, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("shapes"), oracle, cpu_flags())


def misses(rows: tuple[Checked, ...]) -> list[str]:
    return [f"{r.device} {r.part}: planned {r.planned:.1f}, reported {r.reported} MiB" for r in rows if not r.ok]


@pytest.mark.parametrize("cell", CELLS + HOLES + ADDED, ids=str)
def test_planned_memory_is_what_llama_server_reports(bench: Bench, cell: Cell) -> None:
    assert misses(bench.run(cell)) == []


@pytest.mark.parametrize("fields", [{}, {"ctx": 65536, "ubatch": 2048, "parallel": 2}, {"nkvo": True}, {"ngl": 30}])
@pytest.mark.parametrize("make", shapes.BOUNDED)
def test_of_an_unchecked_architecture_no_buffer_is_larger_than_planned(
    bench: Bench, make: Callable[[], shapes.Shape], fields: dict[str, int | bool]
) -> None:
    facts = bench.facts(make().name)
    base: dict[str, int | bool] = {"ctx": 32768, "ngl": facts.n_layer_all + 1, "threads": 1}
    rows = bench.compare(facts, Assignment(**{**base, **fields}))  # type: ignore[arg-type]
    off = [row for row in rows if not row.ok and (row.part != "compute" or row.planned < row.reported)]
    assert misses(tuple(off)) == []


def test_the_cells_cover_every_shape_and_every_value_of_each_axis() -> None:
    assert len(CELLS) == len(set(CELLS)) == 60
    assert {cell.shape for cell in CELLS} == set(NAMES)
    for axis in ("kv", "ctx", "slots", "ubatch", "placement"):
        values = [getattr(cell, axis) for cell in CELLS]
        assert all(values.count(value) >= 5 for value in set(values)), axis
    assert {cell.placement for cell in CELLS} == {"gpu", "partial", "experts", "nkvo", "cpu"}
    assert {cell.shape for cell in ADDED} == {make().name for make in shapes.ADDED}


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (shapes.gemma3_12b, {"swa_full": True}),
        (shapes.gpt_oss_20b, {"swa_full": True, "ubatch": 2048}),
        (shapes.gemma3_12b, {"parallel": 4, "ubatch": 512}),
        (shapes.gemma3_12b, {"parallel": 4, "ubatch": 512, "kv_unified": True}),
        (shapes.gpt_oss_20b, {"parallel": 2, "kv_unified": True}),
        (shapes.gpt_oss_20b, {"ngl": 10, "nkvo": True}),
        (shapes.qwen3moe_30b, {"ngl": 30, "nkvo": True, "ubatch": 2048}),
        (shapes.qwen35_27b, {"ngl": 30, "nkvo": True}),
        (shapes.qwen35moe_35b, {"nkvo": True, "ncmoe": 13}),
        (shapes.gemma4_26b_a4b, {"nkvo": True, "ncmoe": 10, "ubatch": 2048}),
        (shapes.llama_8b, {"nkvo": True, "ncffn": 10}),
        (shapes.granite_hybrid_32b, {"ngl": 27, "ncmoe": 20}),
        (shapes.llama_8b, {"ubatch": 4096, "batch": 4096}),
        (shapes.qwen3moe_30b, {"ngl": 40, "ncmoe": 20}),
        (shapes.qwen2_14b, {"ngl": 40, "ncffn": 20}),
        (shapes.llama_8b, {"ngram_max": 64}),  # its 16 MiB of RAM are in no report, and nothing else may change
        (shapes.qwen35moe_35b, {"ngram_max": 48, "ncmoe": 13}),
    ],
)
def test_other_flags_of_the_search_are_planned_as_reported(
    bench: Bench, make: object, fields: dict[str, int | bool]
) -> None:
    shape = make()  # type: ignore[operator]
    facts = bench.facts(shape.name)
    base: dict[str, int | bool] = {"ctx": 32768, "ngl": facts.n_layer_all + 1, "threads": 1}
    assert misses(bench.compare(facts, Assignment(**{**base, **fields}))) == []  # type: ignore[arg-type]


HEADS: list[dict[str, int | bool]] = [{}, {"parallel": 2, "ubatch": 2048}, {"nkvo": True}, {"ngl": 30}]


@pytest.mark.parametrize("own_file", [False, True], ids=["in the file", "in a file of its own"])
@pytest.mark.parametrize(("make", "guesses"), [(shapes.qwen35_27b, 2), (shapes.qwen35moe_35b, 3)])
def test_a_prediction_blocks_weights_cache_and_buffers_are_planned(
    bench: Bench, tmp_path: Path, make: Callable[..., shapes.Shape], guesses: int, own_file: bool
) -> None:
    whole = make(mtp=True)
    head = companions.mtp_head(whole)
    drafter = read_facts(head.header(), path=str(head.write(tmp_path))) if own_file else None
    model = make() if own_file else whole
    facts = read_facts(model.header(), path=str(model.write(tmp_path)))
    for more in HEADS:
        for draft_max in (0, guesses):
            base: dict[str, int | bool] = {"ctx": 32768, "ngl": facts.n_layer_all + 1, "threads": 1}
            guessing = {"draft_max": draft_max, "drafter": own_file and draft_max > 0}
            a = Assignment(**{**base, **more, **guessing})  # type: ignore[arg-type]
            assert misses(bench.compare(facts, a, drafter=drafter if a.drafter else None)) == [], more


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"parallel": 2, "ubatch": 2048, "type_k": "f16", "type_v": "f16"},
        {"ngl": 40, "ncffn": 20, "ctx": 65536},
        {"nkvo": True},
        {"ngl": 0, "has_gpu": True},
    ],
    ids=["gpu", "two slots", "feed-forward weights in RAM", "nkvo", "cpu"],
)
def test_a_second_models_weights_cache_and_buffers_are_planned(
    bench: Bench, tmp_path: Path, fields: dict[str, int | bool | str]
) -> None:
    small = shapes.qwen2_05b()
    drafter = read_facts(small.header(), path=str(small.write(tmp_path)))
    facts = bench.facts("qwen2-14b")
    base: dict[str, int | bool | str] = {"ctx": 32768, "ngl": facts.n_layer_all + 1, "threads": 1}
    a = Assignment(**{**base, **fields}, draft_max=3, drafter=True)  # type: ignore[arg-type]
    assert misses(bench.compare(facts, a, drafter=drafter)) == []


def test_two_gpus_are_filled_as_the_split_says(built_engine: Path, tmp_path: Path) -> None:
    devices = (Device("RPC0", "RPC", 24000, 24000), Device("RPC1", "RPC", 24000, 24000))
    with stand_in_gpus(built_engine, 2) as pair:
        bench = Bench(tmp_path, pair, cpu_flags())
        for name, fields in (
            ("llama-8b", {"split": (3.0, 1.0)}),
            ("gemma3-12b", {"split": (1.0, 2.0)}),
            ("qwen35moe-35b-a3b", {"split": (1.0, 1.0), "ncmoe": 10}),
        ):
            facts = bench.facts(name)
            a = Assignment(ctx=32768, ngl=facts.n_layer_all + 1, threads=1, **fields)  # type: ignore[arg-type]
            assert misses(bench.compare(facts, a, devices)) == []


@pytest.mark.parametrize("nkvo", [False, True])
@pytest.mark.parametrize("ubatch", [512, 2048])
def test_a_prediction_block_with_its_experts_in_ram_is_never_counted_too_low(
    bench: Bench, ubatch: int, nkvo: bool
) -> None:
    facts = bench.facts("glm4moe-106b-a12b")
    n = facts.n_layer_all
    a = Assignment(ctx=65536, ngl=n + 1, ncmoe=n, nkvo=nkvo, ubatch=ubatch, draft_max=2, threads=1)
    rows = bench.compare(facts, a)
    assert misses(tuple(row for row in rows if row.part != "compute")) == []
    assert [row for row in rows if row.planned < row.reported - 1] == []


def test_no_plan_of_a_sample_goes_over_its_budgets_by_llama_servers_own_count(
    bench: Bench, oracle: Oracle, tmp_path: Path
) -> None:
    """Random machines: what llama-server reports for the chosen flags, with what it leaves out, keeps the budgets."""
    planned = 0
    for draw in draws(45, seed=5, backend="RPC"):
        try:
            plan = make_plan(draw.facts, draw.hardware, Goal(ctx=draw.ctx, kv_type="q4_0"))
        except Infeasible:
            continue
        planned += 1
        path = bench.facts(draw.facts.path.split("/")[-1].removesuffix(".gguf")).path
        on_gpu = plan.assignment.ngl > 0
        said = oracle.measure(Path(path), plan.argv[2:], on_gpu=on_gpu)
        for part, use, budget in zip(said.devices, plan.memory.devices, plan.budget.devices, strict=False):
            assert part.model + part.context + part.compute + use.other <= budget, (draw.number, part)
        host = said.host.model + said.host.context + said.host.compute + plan.memory.host.other
        assert host <= plan.budget.ram, (draw.number, said.host)
    assert planned >= 20


def test_our_plan_is_never_slower_than_what_fit_chooses(bench: Bench, oracle: Oracle) -> None:
    """llama-fit-params on the same machines (the stand-in GPU bounds VRAM), scored by the same speed model."""
    total = psutil.virtual_memory().total >> 20
    gains = []
    for draw in draws(16, seed=8, backend="RPC", most_vram=min(total * 0.6 / 1024, 24.0)):
        try:
            plan = make_plan(draw.facts, draw.hardware, Goal(ctx=draw.ctx, kv_type="q4_0"))
        except Infeasible:
            continue
        path = bench.facts(draw.facts.path.split("/")[-1].removesuffix(".gguf")).path
        free = draw.hardware.devices[0].free_mib
        fit_target = total - free + 1024  # llama.cpp's own margin of 1024 MiB, on a GPU of this draw's size
        chosen = oracle.fit(Path(path), [*fit_flags_wanted(plan), "-fitt", str(fit_target)])
        found = compare(plan, chosen)
        assert found.ours.session_s <= found.fit.session_s * 1.005, (draw.number, found)
        assert found.ours.decode_tps >= found.fit.decode_tps * 0.99, (draw.number, found)
        assert found.ours.prefill_tps >= found.fit.prefill_tps * 0.99, (draw.number, found)
        gains.append(found.fit.session_s / found.ours.session_s)
    assert len(gains) >= 6
