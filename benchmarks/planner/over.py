"""Whether any plan of random machines goes over its budgets by llama-server's own count.

    python -m benchmarks.planner.over [DRAWS]

LLMSTACK_TEST_ENGINE=FOLDER names the bin folder. Counted is what llama-server reports for the plan's flags, and what
its report leaves out as planned. About 0.4 s a draw.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from llmstack.plan import Goal, Infeasible, make_plan
from support.planner.cells import Bench, cpu_flags
from support.planner.draws import draws
from support.planner.oracle import stand_in_gpus


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    planned = over = 0
    with tempfile.TemporaryDirectory() as folder, stand_in_gpus(Path(os.environ["LLMSTACK_TEST_ENGINE"])) as oracle:
        bench = Bench(Path(folder), oracle, cpu_flags())
        for draw in draws(count, seed=11, backend="RPC"):
            try:
                plan = make_plan(draw.facts, draw.hardware, Goal(ctx=draw.ctx, kv_type="q4_0"))
            except Infeasible:
                continue
            planned += 1
            path = Path(bench.facts(draw.facts.path.split("/")[-1].removesuffix(".gguf")).path)
            said = oracle.measure(path, plan.argv[2:], on_gpu=plan.assignment.ngl > 0)
            parts = [*zip(said.devices, plan.memory.devices, plan.budget.devices, strict=False)]
            parts.append((said.host, plan.memory.host, plan.budget.ram))
            for part, use, budget in parts:
                if part.model + part.context + part.compute + use.other > budget:
                    over += 1
                    print(f"draw {draw.number}, {plan.facts.name}: {part} and {use.other:.0f} MiB in {budget}")
    print(f"{count} draws, {planned} planned, {over} budgets exceeded")
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
