"""Our plans beside the choice of llama-fit-params on random machines.

    python -m benchmarks.planner.fit [DRAWS] [SEED]

LLMSTACK_TEST_ENGINE=FOLDER names the bin folder. The stand-in GPU has this machine's RAM, so VRAM is drawn below it;
--fit keeps its own margin of 1024 MiB. Both choices are scored by the planner's speed model.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

import psutil

from llmstack.plan import Goal, Infeasible, make_plan
from llmstack.plan.compare import compare, fit_flags_wanted
from support.planner import shapes
from support.planner.draws import draws
from support.planner.oracle import stand_in_gpus


def main() -> int:
    count, seed = (int(sys.argv[n]) if len(sys.argv) > n else default for n, default in ((1, 24), (2, 8)))
    total = psutil.virtual_memory().total >> 20
    ratios: list[tuple[float, float, float]] = []
    print("| model | VRAM MiB | context | our placement | prefill | decode | same work |")
    print("|--|--|--|--|--|--|--|")
    with tempfile.TemporaryDirectory() as folder, stand_in_gpus(Path(os.environ["LLMSTACK_TEST_ENGINE"])) as oracle:
        paths = {shape.name: shape.write(Path(folder)) for shape in (make() for make in shapes.ALL)}
        for draw in draws(count, seed, backend="RPC", most_vram=min(total * 0.6 / 1024, 24.0)):
            try:
                plan = make_plan(draw.facts, draw.hardware, Goal(ctx=draw.ctx, kv_type="q4_0"))
            except Infeasible:
                continue
            free, a = draw.hardware.devices[0].free_mib, plan.assignment
            chosen = oracle.fit(paths[plan.facts.name], [*fit_flags_wanted(plan), "-fitt", str(total - free + 1024)])
            found = compare(plan, chosen)
            mine, theirs = found.ours, found.fit
            three = (
                mine.prefill_tps / theirs.prefill_tps,
                mine.decode_tps / theirs.decode_tps,
                theirs.session_s / mine.session_s,
            )
            ratios.append(three)
            where = (
                f"-ngl {a.ngl}" + (f" -ncmoe {a.ncmoe}" if a.ncmoe else "") + (f" -ncffn {a.ncffn}" if a.ncffn else "")
            )
            times = " | ".join(f"{ratio:.2f}" for ratio in three)
            print(f"| {plan.facts.name} | {free} | {a.ctx} | {where} -ub {a.ubatch} | {times} |", flush=True)
    for number, name in enumerate(("prefill", "decode", "same work")):
        values = [three[number] for three in ratios]
        print(f"{name}: {min(values):.2f} to {max(values):.2f} times, median {statistics.median(values):.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
