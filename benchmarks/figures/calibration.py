"""Predicted against measured speed, after calibration, on models of other shapes than those it was calibrated with.

    python -m benchmarks.figures.calibration [--out FILE]

Everything is measured as `llmstack bench --calibrate` does it, in rounds over all models. --out: timings are kept
there, and what it holds already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from llmstack.bench.calibrate import PROBES, ROUNDS, Timing, even, observe
from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.detect.bandwidth import ram_read_gbps
from llmstack.detect.hardware import detect
from llmstack.detect.model_file import open_model
from llmstack.engine.find import Engine, EngineKind, EngineOrigin, find
from llmstack.hardware import Cpu, Hardware
from llmstack.paths import Home
from llmstack.plan import read_facts
from llmstack.plan.assignment import Assignment
from llmstack.plan.calibrate import Observation, fit, predict_s

TARGETS = (
    ProbeShape("dense, wide", layers=8, d=2048, heads=16, kv_heads=4, n_ff=5632, head_dim=128),
    ProbeShape("dense, deep", layers=24, d=768, heads=12, kv_heads=4, n_ff=2304),
    ProbeShape("experts", layers=12, d=1024, heads=16, kv_heads=4, n_ff=512, experts=32, experts_used=4),
)
Take = Callable[[Path], list[Timing]]


class Timings:
    """Those of each model and round, kept in a file if there is one."""

    def __init__(self, path: Path | None, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._known: dict[str, list[list[Any]]] = json.loads(path.read_text()) if path and path.exists() else {}

    def take(self, shape: ProbeShape, turn: int, take: Take) -> None:
        name = f"{shape.name}, round {turn + 1}"
        if name in self._known:
            return
        found = take(self._file(shape))
        self._known[name] = [[o.decode, o.tokens, o.depth, o.seconds, pace] for o, pace in found]
        if self._path:
            self._path.write_text(json.dumps(self._known))

    def of(self, shape: ProbeShape, threads: int) -> list[Timing]:
        path = self._file(shape)
        facts = read_facts(open_model(path).header, path=str(path))
        a = Assignment(ctx=8192, ngl=0, type_k="f16", type_v="f16", threads=threads)
        rounds = [timings for name, timings in self._known.items() if name.startswith(f"{shape.name}, round")]
        return [Timing(Observation(facts, a, *work), pace) for timings in rounds for *work, pace in timings]

    def _file(self, shape: ProbeShape) -> Path:
        return write_probe(shape, self._folder / f"{shape.name.replace(', ', '-')}.gguf")


def table(hardware: Hardware, calibrated: Hardware, observations: list[Observation]) -> list[str]:
    lines = [
        "| model | | measured, tokens/s | assumed | off by | calibrated | off by |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    misses = []
    for o in observations:
        real = o.tokens / o.seconds
        guessed, fitted = (
            o.tokens / predict_s(o.facts, h, o.assignment, decode=o.decode, tokens=o.tokens, depth=o.depth)
            for h in (hardware, calibrated)
        )
        misses.append(abs(fitted / real - 1))
        kind = f"{'decode' if o.decode else 'prefill'} at {o.depth:,}"
        lines.append(
            f"| {o.facts.name} | {kind} | {real:.1f} | {guessed:.1f} | {guessed / real - 1:+.0%} | "
            f"{fitted:.1f} | {fitted / real - 1:+.1%} |"
        )
    lines.append("")
    lines.append(f"worst {max(misses):.1%}, median {statistics.median(misses):.1%} of {len(misses)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", type=Path, help="a llama-server to use instead of the embedded engine")
    parser.add_argument("--out", type=Path, help="where timings are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmstack-figures-") as folder:
        root = Path(folder)
        home = Home(root / "config", root / "state", root / "data", root / "cache")
        engine = (
            Engine(options.engine.name, EngineKind.BINARY, EngineOrigin.CONFIGURED, (str(options.engine),))
            if options.engine
            else find(home)
        )
        found = detect().hardware
        threads = found.cpu.physical_cores
        ram = replace(found.ram, bandwidth_gbps=ram_read_gbps(threads))
        hardware = Hardware(ram, Cpu(threads, threads, found.cpu.flags))
        print(f"engine {engine.name}, {threads} threads", flush=True)

        def take(path: Path, depths: Sequence[int]) -> list[Timing]:
            print(f"  measuring {path.stem}", flush=True)
            return observe(home, engine, hardware, path, depths)

        timings = Timings(options.out, root)
        for turn, depths in enumerate(ROUNDS):
            for shape in (*PROBES, *TARGETS):
                timings.take(shape, turn, partial(take, depths=depths))
        everything = even([timing for shape in (*PROBES, *TARGETS) for timing in timings.of(shape, threads)])
        probes = {shape.name for shape in PROBES}
        seen = [o for o in everything if o.facts.name in probes]
        calibrated = fit(hardware, seen, engine=engine.name)
        print(calibrated.measured, flush=True)
        others = [o for o in everything if o.facts.name not in probes]
        print("\n".join(["", "what it was calibrated with:", *table(hardware, calibrated, seen), ""]))
        print("\n".join(table(hardware, calibrated, others)))


if __name__ == "__main__":
    main()
