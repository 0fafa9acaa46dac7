"""The most that -ot for single matrices could gain: `python -m benchmarks.planner.finer [DRAWS]`.

-ot can keep some matrices of the last block whose experts or feed-forward weights a plan leaves in RAM. That block
on the GPU as a whole (one less for -ncmoe or -ncffn), whether it fits or not, is more than any such choice; its
predicted gain is the bound.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace

from llmstack.plan import Goal, Infeasible, make_plan
from llmstack.plan.search import Search
from support.planner.draws import draws


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    gains = []
    for draw in draws(count, seed=31, most_vram=24.0):
        try:
            plan = make_plan(draw.facts, draw.hardware, Goal(ctx=draw.ctx, kv_type="q4_0"))
        except Infeasible:
            continue
        a = plan.assignment
        if not (a.ncmoe or a.ncffn):
            continue
        finer = replace(a, ncmoe=max(a.ncmoe - 1, 0), ncffn=max(a.ncffn - 1, 0))
        found = Search(draw.facts, draw.hardware, Goal(), {}).score(finer)
        gains.append(
            (plan.predicted.session_s / found.cost - 1, f"{plan.facts.name} -ncmoe {a.ncmoe} -ncffn {a.ncffn}")
        )
    parts = [gain for gain, _ in gains]
    print(f"{len(parts)} of {count} plans leave weights of blocks in RAM; same work faster by at most")
    print(f"median {statistics.median(parts):.1%}, worst {max(parts):.1%} ({max(gains)[1]})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
