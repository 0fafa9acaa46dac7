"""Files that only guess ahead, on the real engine: it takes them as planned, holds what was planned, and guesses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from llmstack.detect.dry_run import dry_run
from llmstack.hardware import Device
from llmstack.plan import Goal, ModelFacts, read_facts
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment
from llmstack.plan.compare import check
from llmstack.plan.memory import Estimator
from support.engine_process import engine_process
from support.planner import companions
from support.planner.cells import cpu_flags
from support.planner.oracle import stand_in_gpus
from support.planner.shapes import Shape

GUESSES = 3
PAIRS: dict[str, tuple[Callable[[], Shape], Callable[[], Shape]]] = {
    "draft-eagle3": (companions.dense_target, companions.eagle3),
    "draft-dflash": (companions.dense_target, companions.dflash),
    "draft-mtp": (companions.gemma_target, companions.gemma_head),
}


class Held(NamedTuple):
    """MiB that the server's log names, of a device or the host; guessed: tokens, in its answer to a question."""

    weights: float
    context: float
    compute: float
    host_compute: float
    guessed: int


def facts_of(shape: Shape, folder: Path) -> ModelFacts:
    return read_facts(shape.header(), path=str(shape.write(folder)))


def served(argv: list[str], log: Path, *, extracts: bool) -> Held:
    """Starts it, asks once and ends it. extracts: the large model reserves its buffers anew for what it hands over."""
    with engine_process(argv, log) as url:
        body = {"prompt": [5, 6, 7, 8] * 150, "n_predict": 16, "temperature": 0}
        answer = httpx.post(f"{url}/completion", json=body, timeout=120).raise_for_status().json()
    text = log.read_text()

    def sizes(device: str, what: str) -> list[float]:
        return [float(size) for size in re.findall(rf"{device} +{what} buffer size = +([\d.]+) MiB", text)]

    def compute(device: str) -> float:
        each = sizes(device, "compute")
        return (each[-1] if extracts else each[0]) + each[1]

    gpu = r"RPC0\[[^]]*\]"
    return Held(
        sum(sizes(gpu, "model")), sum(sizes(gpu, "KV")), compute(gpu), compute(" CPU"), answer["timings"]["draft_n"]
    )


@pytest.mark.parametrize("ubatch", [512, 2048])
@pytest.mark.parametrize("spec_type", PAIRS)
def test_a_companion_is_taken_by_the_engine_and_holds_what_was_planned(
    spec_type: str, ubatch: int, built_engine: Path, tmp_path: Path
) -> None:
    large, small = (facts_of(make(), tmp_path) for make in PAIRS[spec_type])
    assert small.companion is not None and small.companion.spec_type == spec_type
    assert small.companion.why_not(large.n_embd, large.n_layer) == ""
    a = Assignment(
        ctx=8192, ngl=large.n_layer_all + 1, threads=2, ubatch=ubatch, type_k="f16", type_v="f16", devices=("RPC0",),
        draft_max=GUESSES, drafter=True,
    )  # fmt: skip
    gpu = (Device("RPC0", "RPC", 24000, 24000),)
    planned = Estimator(large, gpu, cpu_flags=cpu_flags(), drafter=small).estimate(a)
    with stand_in_gpus(built_engine) as gpus:
        argv = [str(built_engine / "llama-server"), "-m", large.path, "--rpc", ",".join(gpus.endpoints)]
        argv += [*flags(large, a, Goal(draft=small))[2:], "-lv", "4", "--no-warmup", "--fit", "off"]
        held = served(argv, tmp_path / "log", extracts=bool(small.companion.reads))
    assert held.guessed > 0
    assert planned.devices[0].weights == pytest.approx(held.weights, abs=1)
    assert planned.devices[0].context == pytest.approx(held.context, abs=1)
    assert held.compute - 1 <= planned.devices[0].compute <= 1.25 * held.compute
    assert held.host_compute - 1 <= planned.host.compute


@pytest.mark.parametrize("spec_type", PAIRS)
def test_a_dry_run_reports_the_large_model_alone_and_says_so(
    spec_type: str, built_engine: Path, tmp_path: Path
) -> None:
    """Such a companion has no context without the large one's; the check compares what there is."""
    large, small = (facts_of(make(), tmp_path) for make in PAIRS[spec_type])
    a = Assignment(ctx=8192, ngl=0, threads=2, draft_max=GUESSES, drafter=True)
    reported = dry_run(built_engine / "llama-server", ["-m", large.path, *flags(large, a, Goal(draft=small))[2:]])
    assert not reported.whole
    planned = Estimator(large, (), cpu_flags=cpu_flags(), drafter=small).estimate_large_model(a)
    for row in check(planned, reported.devices, reported.host):
        assert row.planned == pytest.approx(row.reported, abs=3), row
