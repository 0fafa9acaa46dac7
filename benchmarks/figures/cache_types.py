"""What the cache's type costs on threads: prefill and decode with f16, q8_0 and q4_0, two made-up models.

    python -m benchmarks.figures.cache_types

The factors that the last lines show are those of attention alone: what a depth of DEPTH adds to the time at depth 0.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.figures.calibration import TARGETS
from llmstack.bench.depths import Depths, Effort, measure
from llmstack.bench.probe_model import write_probe
from llmstack.bench.sample import Sampler
from llmstack.bench.scratch import scratch
from llmstack.detect.hardware import detect
from llmstack.engine.find import find
from llmstack.judge import Metric
from llmstack.paths import Home

KINDS = ("f16", "q8_0", "q4_0")
DEPTH = 1024
EFFORT = Effort(3, 24, 45.0)
SHAPES = TARGETS[1:]  # the wide one would take minutes with each type


def main() -> None:
    threads = str(detect().hardware.cpu.physical_cores)
    rows: list[str] = []
    factors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="llmstack-figures-") as folder:
        root = Path(folder)
        home = Home(root / "config", root / "state", root / "data", root / "cache")
        engine = find(home)
        for shape in SHAPES:
            path = write_probe(shape, root / f"{shape.name.replace(', ', '-')}.gguf")
            found: dict[str, Depths] = {}
            for kind in KINDS:
                argv = (
                    "-m",
                    str(path),
                    "-c",
                    "8192",
                    "-np",
                    "1",
                    "-t",
                    threads,
                    "-fa",
                    "on",
                    "-ctk",
                    kind,
                    "-ctv",
                    kind,
                )
                with scratch(home, engine, (*argv, "-ngl", "0"), model_bytes=path.stat().st_size) as (client, pid):
                    sampler = Sampler([pid], patience_s=10.0)
                    found[kind] = measure(client, sampler, (0, DEPTH), EFFORT, lambda _: None, chunk=512)
                figures = [m.median for d in (found[kind].prefill, found[kind].decode) for m in d.values()]
                rows.append(f"| {shape.name} | {kind} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")
                print(rows[-1], flush=True)
            for kind in KINDS[1:]:
                prefill, decode = (
                    _added(getattr(found[kind], what)) / _added(getattr(found["f16"], what))
                    for what in ("prefill", "decode")
                )
                factors.append(f"{shape.name}, {kind}: prefill {prefill:.1f}, decode {decode:.1f} times as long")
    print(
        f"\n| model | cache | prefill at 0 | at {DEPTH:,} | decode at 0 | at {DEPTH:,} |\n| --- | --- "
        + "| ---: " * 4
        + "|"
    )
    print("\n".join([*rows, "", *factors]))


def _added(metrics: dict[int, Metric]) -> float:
    """s for a token that the depth adds."""
    here, there = metrics[0].median, metrics[DEPTH].median
    return 1 / there - 1 / here


if __name__ == "__main__":
    main()
