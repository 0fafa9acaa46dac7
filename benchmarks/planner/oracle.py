"""Runs the whole memory matrix against the real llama.cpp and prints what misses.

    python -m benchmarks.planner.oracle [SHAPE or placement...]

LLMSTACK_TEST_ENGINE=FOLDER names the bin folder. Arguments are shapes, or placements (gpu, partial, experts, nkvo,
cpu) to run only those; partial-nkvo, experts-nkvo and partial-experts run only when named. About 0.15 s a cell on
an idle machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from llmstack.plan.compare import COMPUTE_MIB, COMPUTE_PART
from support.planner import shapes
from support.planner.cells import COMBINED, PLACEMENTS, Bench, cpu_flags, matrix
from support.planner.oracle import OracleError, stand_in_gpus


def main() -> int:
    engine = Path(os.environ["LLMSTACK_TEST_ENGINE"])
    placements = tuple(word for word in sys.argv[1:] if word in PLACEMENTS + COMBINED) or PLACEMENTS
    names = tuple(w for w in sys.argv[1:] if w not in placements) or tuple(make().name for make in shapes.ALL)
    figures: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str, str]] = Counter()
    worst: dict[tuple[str, str, str], str] = {}
    size: dict[tuple[str, str, str], float] = {}
    under = cells = refused = 0
    with tempfile.TemporaryDirectory() as folder, stand_in_gpus(engine) as oracle:
        bench = Bench(Path(folder), oracle, cpu_flags())
        for cell in matrix(names, placements):
            cells += 1
            if cells % 180 == 0:
                print(f"… {cells} cells, now {cell.shape}", file=sys.stderr, flush=True)
            try:
                rows = bench.run(cell)
            except OracleError as error:
                refused += 1
                print(f"{cell}: no report: {str(error)[-200:]}", flush=True)
                continue
            for row in rows:
                figures[row.part, "all"] += 1
                if row.ok:
                    figures[row.part, "ok"] += 1
                    continue
                key = (cell.shape, cell.placement, f"{'RAM' if row.device == 'RAM' else 'GPU'} {row.part}")
                failed[key] += 1
                over = row.planned - row.reported
                under += over < -max(COMPUTE_MIB, COMPUTE_PART * row.reported)
                if abs(over) > size.get(key, 0):
                    size[key] = abs(over)
                    worst[key] = f"{over:+.0f} of {row.reported} MiB at {cell}"
    print(f"{cells} cells, {refused} without a report")
    for part in ("weights", "context", "compute"):
        print(f"{part}: {figures[part, 'ok']} of {figures[part, 'all']} figures agree")
    print(f"{under} figures are too low by more than the tolerance")
    for key, count in sorted(failed.items()):
        print(f"| {' | '.join(key)} | {count} | {worst[key]} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
