"""Predicted against measured speed, after calibration, on models of other shapes than those it was calibrated with.

    python -m bench.figures.calibration [--out FILE] [--cpu-time]          (from tests/, with PYTHONPATH=.)

By the clock everything is measured as `llmstack bench --calibrate` does it, in rounds over all models. --out: timings
are kept there, and what it holds already is not measured again. --cpu-time: one thread, and seconds of its processor
time. On a machine that others keep busy this is the only timing that says something: a single thread never waits for
another one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmstack.bench.calibrate import PROBES, ROUNDS, medians, observe
from llmstack.bench.depths import CHUNK, Prompts
from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.bench.scratch import scratch
from llmstack.detect.bandwidth import ram_read_gbps
from llmstack.detect.hardware import detect
from llmstack.detect.model_file import open_model
from llmstack.engine.find import Engine, EngineKind, Origin, find
from llmstack.hardware import Cpu, Hardware
from llmstack.paths import Home
from llmstack.plan import Facts, Goal, read_facts
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment
from llmstack.plan.calibrate import Observation, fit, predict_s

TARGETS = (
    ProbeShape("dense, wide", layers=8, d=2048, heads=16, kv_heads=4, n_ff=5632, head_dim=128),
    ProbeShape("dense, deep", layers=24, d=768, heads=12, kv_heads=4, n_ff=2304),
    ProbeShape("experts", layers=12, d=1024, heads=16, kv_heads=4, n_ff=512, experts=32, experts_used=4),
)
DEPTHS = (0, 1536)  # with --cpu-time
DECODED = 24


@dataclass(frozen=True)
class Clock:
    """now(pid): s. The wall's, or the processor's time of all threads of a process."""

    name: str
    now: Callable[[int], float]


def _processor_time(pid: int) -> float:
    """s that all threads of pid ran (/proc/PID/task/TID/schedstat counts ns)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


WALL = Clock("the clock", lambda _: time.perf_counter())
Take = Callable[[Path], list[Observation]]
PROCESSOR = Clock("processor time of one thread", _processor_time)


def by_processor_time(
    home: Home, engine: Engine, path: Path, threads: int, clock: Clock, repeats: int
) -> list[Observation]:
    """Prefill and decode of one model at DEPTHS, the best of the repeats."""
    model = open_model(path)
    facts = read_facts(model.header, path=str(path))
    a = Assignment(ctx=8192, ngl=0, type_k="f16", type_v="f16", threads=threads)
    seen = []
    wanted = (*flags(facts, a, Goal(reasoning="auto")), "-tb", str(threads))
    with scratch(home, engine, wanted, model_bytes=model.size_bytes) as (client, pid):
        prompts = Prompts(client)
        client.complete(prompts.tokens(64), n_predict=2)
        base: list[int] = []

        def spent(tokens: list[int], n: int) -> float:
            began = clock.now(pid)
            client.complete(tokens, n_predict=n)
            return clock.now(pid) - began

        for depth in DEPTHS:
            if depth:
                base = prompts.tokens(depth)
                client.complete(base, n_predict=1)
            prefill = min(spent(base + prompts.tokens(CHUNK), 1) for _ in range(repeats))
            long = min(spent(base + prompts.tokens(4), DECODED + 1) for _ in range(repeats))
            short = min(spent(base + prompts.tokens(4), 1) for _ in range(repeats))
            decode = (long - short) / DECODED
            seen.append(Observation(facts, a, False, CHUNK, depth, prefill))
            seen.append(Observation(facts, a, True, 1, depth, decode))
    return seen


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
        self._known[name] = [[o.decode, o.tokens, o.depth, o.seconds] for o in found]
        if self._path:
            self._path.write_text(json.dumps(self._known))

    def of(self, shape: ProbeShape, threads: int) -> list[Observation]:
        path = self._file(shape)
        facts = read_facts(open_model(path).header, path=str(path))
        a = Assignment(ctx=8192, ngl=0, type_k="f16", type_v="f16", threads=threads)
        rounds = [timings for name, timings in self._known.items() if name.startswith(f"{shape.name}, round")]
        return medians([Observation(facts, a, *timing) for timings in rounds for timing in timings])

    def _file(self, shape: ProbeShape) -> Path:
        return write_probe(shape, self._folder / f"{shape.name.replace(', ', '-')}.gguf")


def table(hardware: Hardware, calibrated: Hardware, rows: list[tuple[str, Facts, Observation]]) -> list[str]:
    lines = [
        "| model | | measured, tokens/s | assumed | off by | calibrated | off by |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    misses = []
    for name, facts, o in rows:
        real = o.tokens / o.seconds
        guessed, fitted = (
            o.tokens / predict_s(facts, h, o.assignment, decode=o.decode, tokens=o.tokens, depth=o.depth)
            for h in (hardware, calibrated)
        )
        misses.append(abs(fitted / real - 1))
        kind = f"{'decode' if o.decode else 'prefill'} at {o.depth:,}"
        lines.append(
            f"| {name} | {kind} | {real:.1f} | {guessed:.1f} | {guessed / real - 1:+.0%} | "
            f"{fitted:.1f} | {fitted / real - 1:+.1%} |"
        )
    lines.append("")
    lines.append(f"worst {max(misses):.1%}, median {statistics.median(misses):.1%} of {len(misses)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--engine", type=Path, help="a llama-server to use instead of the embedded engine")
    parser.add_argument("--repeats", type=int, default=4, help="with --cpu-time")
    parser.add_argument("--out", type=Path, help="where timings are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmstack-figures-") as folder:
        root = Path(folder)
        home = Home(root / "config", root / "state", root / "data", root / "cache")
        engine = (
            Engine(options.engine.name, EngineKind.BINARY, Origin.CONFIGURED, (str(options.engine),))
            if options.engine
            else find(home)
        )
        found = detect().hardware
        threads = 1 if options.cpu_time else found.cpu.physical_cores
        ram = replace(found.ram, bandwidth_gbps=ram_read_gbps(threads))
        hardware = Hardware(ram, Cpu(threads, threads, found.cpu.flags))
        clock = PROCESSOR if options.cpu_time else WALL
        print(f"engine {engine.name}, {threads} threads, seconds are {clock.name}", flush=True)

        def take(path: Path) -> list[Observation]:
            print(f"  measuring {path.stem}", flush=True)
            if options.cpu_time:
                return by_processor_time(home, engine, path, threads, clock, options.repeats)
            return observe(home, engine, hardware, path)

        timings = Timings(options.out, root)
        for turn in range(ROUNDS):
            for shape in (*PROBES, *TARGETS):
                timings.take(shape, turn, take)
        seen = [o for shape in PROBES for o in timings.of(shape, threads)]
        calibrated = fit(hardware, seen, engine=engine.name)
        print(calibrated.measured, flush=True)
        rows = [(shape.name, o.facts, o) for shape in TARGETS for o in timings.of(shape, threads)]
        own = [(o.facts.name, o.facts, o) for o in seen]
        print("\n".join(["", "what it was calibrated with:", *table(hardware, calibrated, own), ""]))
        print("\n".join(table(hardware, calibrated, rows)))


if __name__ == "__main__":
    main()
