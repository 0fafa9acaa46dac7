"""`tune`'s coordinate search against an exhaustive grid over the same values, both measured with a real engine.

    python -m bench.figures.tuning [--repeats 3] [--cpu-time]              (from tests/, with PYTHONPATH=.)

The axes are the product's own, but for -lm. The grid is measured first; the search must come within 5 % of its best in
a third of its time. --cpu-time: -t is left out of the grid, and seconds are one thread's processor time.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench.figures.calibration import PROCESSOR, WALL, Clock
from llmstack.bench.depths import Prompts
from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.bench.scratch import scratch
from llmstack.bench.tune import Aim, Trial, axes, moved, search, seconds_of
from llmstack.detect.hardware import detect
from llmstack.detect.model_file import open_model
from llmstack.engine.find import Engine, find
from llmstack.paths import Home
from llmstack.plan import Facts, Goal, Workload, read_facts
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment

SHAPE = ProbeShape("grid", layers=4, d=512, heads=8, kv_heads=4, n_ff=1536)
DEPTH = 1024
PROMPT = 2048  # tokens, as long as the widest -ub that is tried
DECODED = 64


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

        prefill = min(spent(base + prompts.tokens(PROMPT), 1) for _ in range(repeats))
        long = min(spent(base + prompts.tokens(4), DECODED + 1) for _ in range(repeats))
        short = min(spent(base + prompts.tokens(4), 1) for _ in range(repeats))
    prefill_tps, decode_tps = PROMPT / prefill, DECODED / max(long - short, 1e-6)
    return Trial(a, prefill_tps, decode_tps, seconds_of(Aim.SESSION, prefill_tps, decode_tps, Workload()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cores = 1 if options.cpu_time else detect().hardware.cpu.physical_cores
    clock = PROCESSOR if options.cpu_time else WALL
    with tempfile.TemporaryDirectory(prefix="llmstack-figures-") as folder:
        root = Path(folder)
        home = Home(root / "config", root / "state", root / "data", root / "cache")
        engine = find(home)
        model = open_model(write_probe(SHAPE, root / "grid.gguf"))
        facts = read_facts(model.header, path=str(model.path))
        start = Assignment(ctx=8192, ngl=0, type_k="q4_0", type_v="q4_0", threads=cores, ubatch=512)
        tried_axes = axes(start, facts, detect().hardware, ("-lm", "-t") if options.cpu_time else ("-lm",))
        tried_axes["ubatch"] = tuple(u for u in tried_axes["ubatch"] if u <= PROMPT)
        print(f"engine {engine.name}, seconds are {clock.name}, axes {tried_axes}", flush=True)
        began = time.monotonic()
        grid = []
        for values in itertools.product(*tried_axes.values()):
            a = replace(start)
            for name, value in zip(tried_axes, values, strict=True):
                a = moved(a, name, value)
            grid.append(measure(home, engine, facts, a, clock, options.repeats))
        grid_s = time.monotonic() - began

        def try_it(a: Assignment) -> Trial:
            return measure(home, engine, facts, a, clock, options.repeats)

        began = time.monotonic()
        best, tried = search(start, tried_axes, lambda _: True, try_it)
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
