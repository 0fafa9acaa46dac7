"""How long `llmstack plan` takes on a file with 250,000 tokens and merges.

    python -m benchmarks.planner.plan_time [RUNS]

Wall clock of the whole command, in a fresh process: first with an empty folder of llmstack's own (nothing read
before), then again with what that run kept. The machine planned for has a 12 GB card and 32 GB of RAM. Tokens are
made up.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from support.planner import shapes
from support.planner.draws import machine

WORDS = 250_000


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    shape = shapes.qwen35moe_35b()
    metadata = {
        **shape.metadata,
        "tokenizer.ggml.tokens": [f"token{n}" for n in range(WORDS)],
        "tokenizer.ggml.merges": [f"to ken{n}" for n in range(WORDS)],
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model = replace(shape, metadata=metadata).write(home)
        hardware = home / "hardware.json"
        hardware.write_text(json.dumps(machine(12, 32).to_json()))
        first, again = [], []
        for number in range(runs):
            env = {**os.environ, "LLMSTACK_HOME": str(home / str(number)), "HOME": str(home / str(number))}
            (home / str(number)).mkdir()
            for times in (first, again):
                began = time.perf_counter()
                argv = [sys.executable, "-m", "llmstack", "plan", str(model), "--hardware", str(hardware)]
                done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
                times.append(time.perf_counter() - began)
                if done.returncode:
                    print(done.stderr)
                    return 1
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"processor time {(spent.ru_utime + spent.ru_stime) / (2 * runs):.2f} s a run, on average")
    for name, times in (("first", first), ("again", again)):
        print(f"{name}: {min(times):.2f} s at best, median {statistics.median(times):.2f} s, {runs} runs")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
