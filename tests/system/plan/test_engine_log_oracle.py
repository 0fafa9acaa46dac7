"""What an engine itself logs at -lv 4 against the plan's figures: checkpoints of both engines, and the buffers of the
newest one, which has no report to be asked for before it loads."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from llmstack.detect.model_file import open_model
from llmstack.engine.find import EMBEDDED_COMMAND
from llmstack.plan import read_facts
from llmstack.plan.assignment import Assignment
from llmstack.plan.memory import Estimator
from support.engine_process import engine_process
from support.models import write_model
from support.planner.cells import cpu_flags

MIB = 1 << 20
METADATA = 16 * 1024  # of a slot's state beside the cells: positions and sequence numbers


def words_of(command: tuple[str, ...], model: Path, flags: str, log: Path, question: str = "") -> str:
    """The log of an engine that was started, asked where there is a question, and ended."""
    argv = [*command, "-m", str(model), *f"{flags} -np 1 -ngl 0 -fa on -lv 4 --no-warmup".split()]
    with engine_process(argv, log) as url:
        if question:
            body = {"messages": [{"role": "user", "content": question}], "max_tokens": 2}
            httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).raise_for_status()
    return log.read_text()


@pytest.mark.parametrize("engine", ["built", "embedded"])
@pytest.mark.parametrize("kind", ["hybrid", "window"])
@pytest.mark.parametrize("kv", ["f16", "q8_0"])
def test_a_checkpoint_is_as_large_as_planned(
    kind: str, kv: str, engine: str, built_engine: Path, tmp_path: Path
) -> None:
    model = write_model(kind, tmp_path / "model.gguf")
    facts = read_facts(open_model(model, cache=tmp_path / "cache").header)
    command = EMBEDDED_COMMAND if engine == "embedded" else (str(built_engine / "llama-server"),)
    flags = f"-c 8192 -ctxcp 4 -ctk {kv} -ctv {kv}"
    log = words_of(command, model, flags, tmp_path / "log", "word and " * 1500)
    sizes = [float(size) * MIB for size in re.findall(r"created context checkpoint .*size = ([\d.]+) MiB", log)]
    a = Assignment(ctx=8192, ngl=0, type_k=kv, type_v=kv, checkpoints=4)
    planned = Estimator(facts, ()).checkpoint_bytes(a)
    assert sizes
    for size in sizes:
        assert size == pytest.approx(planned, abs=METADATA)


@pytest.mark.parametrize("kind", ["dense", "hybrid", "window"])
@pytest.mark.parametrize(("kv", "ctx"), [("f16", 32768), ("q8_0", 8192), ("q4_0", 16384)])
def test_the_newest_engine_holds_what_was_planned(kind: str, kv: str, ctx: int, tmp_path: Path) -> None:
    model = write_model(kind, tmp_path / "model.gguf")
    facts = read_facts(open_model(model, cache=tmp_path / "cache").header)
    log = words_of(EMBEDDED_COMMAND, model, f"-c {ctx} -ctk {kv} -ctv {kv}", tmp_path / "log")
    held = {
        part: sum(map(float, re.findall(rf"CPU(?:_Mapped)? +{words} buffer size = +([\d.]+) MiB", log)))
        for part, words in (("weights", "model"), ("context", "(?:KV|RS)"), ("compute", "compute"))
    }
    a = Assignment(ctx=ctx, ngl=0, type_k=kv, type_v=kv)
    planned = Estimator(facts, (), cpu_flags=cpu_flags()).estimate(a).host
    assert held["weights"] == pytest.approx(planned.weights, abs=0.1)
    assert held["context"] == pytest.approx(planned.context, abs=0.1)
    assert held["compute"] == pytest.approx(planned.compute, abs=2)
