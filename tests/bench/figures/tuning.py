"""`tune`'s coordinate search against an exhaustive grid over the same values, both measured with a real engine.

    python -m bench.figures.tuning [--repeats 3] [--cpu-time]              (from tests/, with PYTHONPATH=.)

The grid is measured first and its best combination is what the search must come within 5 % of, in a third of the time.
--cpu-time: threads are left out of the grid, and seconds are one thread's processor time: for a busy machine.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.figures.calibration import PROCESSOR, WALL, Clock
from llmstack.bench.depths import CHUNK, Prompts
from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.bench.scratch import scratch
from llmstack.bench.tune import Aim, Trial, moved, search, seconds_of
from llmstack.detect.hardware import detect
from llmstack.detect.model_file import open_model
from llmstack.engine.find import Engine, find
from llmstack.paths import Home
from llmstack.plan import Facts, Goal, Workload, read_facts
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment

SHAPE = ProbeShape("grid", layers=4, d=512, heads=8, kv_heads=4, n_ff=1536)
DEPTH = 1024
DECODED = 16


def measure(home: Home, engine: Engine, facts: Facts, a: Assignment, clock: Clock, repeats: int) -> Trial:
    argv = (*flags(facts, a, Goal(reasoning="auto")), "-tb", str(a.threads))
    with scratch(home, engine, argv) as (client, pid):
        prompts = Prompts(client)
        base = prompts.tokens(DEPTH)
        client.complete(base, n_predict=1)

        def spent(tokens: list[int], n: int) -> float:
            began = clock.now(pid)
            client.complete(tokens, n_predict=n)
            return clock.now(pid) - began

        prefill = min(spent(base + prompts.tokens(CHUNK), 1) for _ in range(repeats))
        long = min(spent(base + prompts.tokens(4), DECODED + 1) for _ in range(repeats))
        short = min(spent(base + prompts.tokens(4), 1) for _ in range(repeats))
    prefill_tps, decode_tps = CHUNK / prefill, DECODED / max(long - short, 1e-6)
    return Trial(a, prefill_tps, decode_tps, seconds_of(Aim.SESSION, prefill_tps, decode_tps, Workload()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cores = 1 if options.cpu_time else detect().hardware.cpu.physical_cores
    clock = PROCESSOR if options.cpu_time else WALL
    axes: dict[str, tuple[Any, ...]] = {
        "ubatch": (64, 128, 256, 512, 1024, 2048),
        "type_k": ("q4_0", "q8_0", "f16"),
        "threads": tuple(sorted({1, cores, cores * 2})) if not options.cpu_time else (1,),
    }
    axes = {name: values for name, values in axes.items() if len(values) > 1}
    with tempfile.TemporaryDirectory(prefix="llmstack-figures-") as folder:
        root = Path(folder)
        home = Home(root / "config", root / "state", root / "data", root / "cache")
        engine = find(home)
        model = open_model(write_probe(SHAPE, root / "grid.gguf"))
        facts = read_facts(model.header, path=str(model.path))
        start = Assignment(ctx=4096, ngl=0, type_k="q4_0", type_v="q4_0", threads=cores, ubatch=512)
        print(f"engine {engine.name}, seconds are {clock.name}, axes {axes}", flush=True)
        began = time.monotonic()
        grid = []
        for values in itertools.product(*axes.values()):
            a = replace(start)
            for name, value in zip(axes, values, strict=True):
                a = moved(a, name, value)
            grid.append(measure(home, engine, facts, a, clock, options.repeats))
        grid_s = time.monotonic() - began

        def try_it(a: Assignment) -> Trial:
            return measure(home, engine, facts, a, clock, options.repeats)

        began = time.monotonic()
        best, tried = search(
            start, axes, lambda _: True, lambda a: measure(home, engine, facts, a, clock, options.repeats)
        )
        search_s = time.monotonic() - began
        top = min(grid, key=lambda trial: trial.seconds)
        found = next(trial for trial in grid if trial.assignment == best.assignment)
        for label, trial in (("grid's best", top), ("search's best, as the grid measured it", found)):
            a = trial.assignment
            print(f"{label}: -ub {a.ubatch} -ctk {a.type_k} -t {a.threads}: {trial.seconds:.0f} s a session")
        print(
            f"off by {found.seconds / top.seconds - 1:+.1%}; {len(tried)} of {len(grid)} trials, "
            f"{search_s:.0f} of {grid_s:.0f} s ({search_s / grid_s:.0%})"
        )


if __name__ == "__main__":
    main()
