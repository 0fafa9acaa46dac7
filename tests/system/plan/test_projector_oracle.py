"""An image encoder's memory against the real llama-server's own report: weights to the hundredth, buffers within 1 %.

The server reserves a buffer for an image of a middling size and says how large it is; a larger image makes it grow
while it is read, which is measured here by what the process holds.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from llmstack.detect.model_file import open_model
from llmstack.plan import ProjectorFacts, read_projector
from support import projectors
from support.models import write_model
from support.pictures import png
from support.projectors import Shape, write_projector
from support.vision import image
from support.wait import free_port

MIB = 1 << 20


@contextmanager
def served(engine: Path, folder: Path, shape: Shape) -> Iterator[tuple[ProjectorFacts, str, int, psutil.Process]]:
    """The plan's figures, the server's log, its port and its process."""
    model, encoder = folder / "text.gguf", folder / "mmproj-F16.gguf"
    write_model("dense", model)
    write_projector(shape.sized(text=128), encoder)
    port, log = free_port(), folder / "log"
    argv = ["-m", str(model), "-mm", str(encoder), "-c", "8192", "--port", str(port), "--fit", "off", "-lv", "4"]
    with log.open("w") as stream:
        process = subprocess.Popen([str(engine / "llama-server"), *argv], stdout=stream, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while "listening on http" not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        yield (
            read_projector(open_model(encoder, takes="projector").header),
            log.read_text(),
            port,
            psutil.Process(process.pid),
        )
    finally:
        process.kill()
        process.wait()


def reported(log: str) -> tuple[float, float]:
    """MiB of weights, and of the compute buffer."""
    weights = re.findall(r"load_hparams: model size: +([\d.]+) MiB", log)
    compute = re.findall(r"reserve_compute_meta: .*compute buffer size = +([\d.]+) MiB", log)
    assert weights and compute, log[-3000:]
    return float(weights[-1]), float(compute[-1])


@pytest.mark.parametrize(
    "shape",
    [projectors.IDEFICS3, projectors.LLAVA, projectors.PIXTRAL, projectors.QWEN3VL, projectors.GEMMA4],
    ids=lambda shape: shape.kind,
)
def test_planned_memory_is_what_llama_server_reports(built_engine: Path, tmp_path: Path, shape: Shape) -> None:
    with served(built_engine, tmp_path, shape) as (facts, log, _, _):
        weights, compute = reported(log)
    assert facts.weights / MIB == pytest.approx(weights, abs=0.01)
    assert facts.compute_at_start / MIB == pytest.approx(compute, rel=0.01)


def test_a_large_image_takes_no_more_than_was_planned_for_it(built_engine: Path, tmp_path: Path) -> None:
    """Of one block, so that it is read in seconds."""
    import httpx

    with served(built_engine, tmp_path, projectors.PIXTRAL.sized(blocks=1)) as (facts, _, port, process):
        before = process.memory_info().rss
        content = [image(png(1400, 1400)), {"type": "text", "text": "?"}]
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 1}
        most = 0
        with httpx.Client(timeout=300) as client:
            assert client.post(f"http://127.0.0.1:{port}/v1/messages", json=body).status_code == 200
            most = process.memory_info().rss - before
    # over: the decoded image, its tokens' embeddings and cells; under: pages of the first buffer that were not touched
    assert facts.compute_at_start < facts.compute
    assert 0.5 * facts.compute <= most <= facts.compute + 96 * MIB, (most / MIB, facts.compute / MIB)
