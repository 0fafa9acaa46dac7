"""`tune`'s coordinate search against an exhaustive grid over the same values, both measured with a real engine.

    python -m benchmarks.figures.tuning [--out FILE]

The axes are the product's own, but for -lm. The grid is measured first; the search must come within 5 % of its best in
a third of its time. A grid's best is also its luckiest: both are measured again in turns. --out: what the grid
measured is appended there, and a grid that was cut short goes on behind it.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figures.rows import Rows
from llmstack.bench.depths import Effort, measure
from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.bench.sample import Sampler
from llmstack.bench.scratch import scratch
from llmstack.bench.tune import Aim, Trial, axes, moved, search, seconds_of
from llmstack.detect.hardware import detect
from llmstack.detect.model_file import open_model
from llmstack.engine.find import Engine, find
from llmstack.paths import Home
from llmstack.plan import Goal, ModelFacts, Workload, read_facts
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment

SHAPE = ProbeShape("grid", layers=4, d=512, heads=8, kv_heads=4, n_ff=1536)
DEPTH = 1024
PROMPT = 2048  # tokens, as long as the widest -ub that is tried
EFFORT = Effort(4, 32, 12.0)
PAIRS = 5


def measured(home: Home, engine: Engine, facts: ModelFacts, a: Assignment) -> Trial:
    """As a trial of `tune` is measured, with prompts of PROMPT tokens."""
    with scratch(home, engine, flags(facts, a, Goal(reasoning="auto"))) as (client, pid):
        sampler = Sampler([pid], patience_s=6.0)
        found = measure(client, sampler, (DEPTH,), EFFORT, lambda _: None, chunk=PROMPT)
    prefill, decode = found.prefill[DEPTH].median, found.decode[DEPTH].median
    return Trial(a, prefill, decode, seconds_of(Aim.SESSION, prefill, decode, Workload()))


class Grid(Rows):
    """Each trial with the seconds that it took."""

    def take(self, wanted: dict[str, Any], trial: Callable[[], Trial]) -> float:
        """Seconds of a session with these values, measured unless they are there."""
        for row in self.rows:
            if row["values"] == wanted:
                return float(row["session_s"])
        began = time.monotonic()
        session_s = trial().seconds
        row = {"values": wanted, "session_s": session_s, "spent_s": time.monotonic() - began}
        self.add(row)
        print(f"  {len(self.rows):>3}: {wanted}: {session_s:.0f} s a session, {row['spent_s']:.0f} s spent", flush=True)
        return session_s

    @property
    def spent_s(self) -> float:
        return sum(row["spent_s"] for row in self.rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="where the grid is kept")
    options = parser.parse_args()
    cores = detect().hardware.cpu.physical_cores
    with tempfile.TemporaryDirectory(prefix="llmstack-figures-") as folder:
        root = Path(folder)
        home = Home(root / "config", root / "state", root / "data", root / "cache")
        engine = find(home)
        model = open_model(write_probe(SHAPE, root / "grid.gguf"))
        facts = read_facts(model.header, path=str(model.path))
        start = Assignment(ctx=8192, ngl=0, type_k="q4_0", type_v="q4_0", threads=cores, ubatch=512)
        tried_axes = axes(start, facts, detect().hardware, ("-lm",))
        tried_axes["ubatch"] = tuple(u for u in tried_axes["ubatch"] if u <= PROMPT)

        def try_it(a: Assignment) -> Trial:
            return measured(home, engine, facts, a)

        print(f"engine {engine.name}, axes {tried_axes}", flush=True)
        grid = Grid(options.out or root / "grid.jsonl")
        sessions: dict[Assignment, float] = {}
        for values in itertools.product(*tried_axes.values()):
            a = start
            wanted = dict(zip(tried_axes, values, strict=True))
            for name, value in wanted.items():
                a = moved(a, name, value)
            sessions[a] = grid.take(wanted, lambda a=a: try_it(a))  # type: ignore[misc]
        began = time.monotonic()
        best, tried = search(start, tried_axes, lambda _: True, try_it)
        search_s = time.monotonic() - began
        top = min(sessions, key=lambda a: sessions[a])
        for label, a in (("grid's best", top), ("search's best, as the grid measured it", best.assignment)):
            print(f"{label}: -ub {a.ubatch} -ctk {a.type_k} -t {a.threads}: {sessions[a]:.0f} s a session")
        share = f"{search_s:.0f} of {grid.spent_s:.0f} s ({search_s / grid.spent_s:.0%})"
        print(f"{len(tried)} of {len(sessions)} trials, {share}")
        pairs = [(try_it(best.assignment).seconds, try_it(top).seconds) for _ in range(PAIRS)]
        ratio = statistics.median(mine / other for mine, other in pairs)
        same = ", which is this machine's noise: they are the same" if best.assignment == top else ""
        print(f"measured again in turns, {PAIRS} times: off by {ratio - 1:+.1%}{same}")


if __name__ == "__main__":
    main()
