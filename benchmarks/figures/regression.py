"""How often the bench calls a regression: on an unchanged stack (never wanted), and with its threads halved (always).

    python -m benchmarks.figures.regression [--tries 20] [--model middle] [--out FILE]


Each try is a real `llmstack bench --quick --json` judged against the same two baseline runs. A try that the bench
itself does not judge, because other programs kept the processors busy or the machine itself was slow, is counted
apart. --out: tries are appended there, and those that it holds already are not taken again, so that the figure can
be made in pieces.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures.rows import Rows
from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.detect.hardware import detect
from support.stack import Stack

MIDDLE = ProbeShape("middle", layers=8, d=1024, heads=16, kv_heads=4, n_ff=2816)


def up(stack: Stack, threads: int) -> None:
    stack.up("--ctx", "16384", "--set", f"t={threads}", timeout_s=900)


def bench(stack: Stack) -> dict[str, Any]:
    done = stack.run("bench", "--quick", "--json", timeout_s=900)
    assert done.status in (0, 1), done.err
    record: dict[str, Any] = done.json
    return record


def judged(run: dict[str, Any]) -> str:
    """slower, unsure (seen as slower, but not judged), or same."""
    if any("slower than before" in finding for finding in run["verdict"]["findings"]):
        return "slower"
    return "unsure" if any("not judged" in note for note in run["verdict"]["notes"]) else "same"


class Tries(Rows):
    """Tries so far."""

    def of(self, model: str, threads: int) -> list[dict[str, Any]]:
        return [row for row in self.rows if (row["model"], row["threads"]) == (model, threads)]


def tries(stack: Stack, taken: Tries, model: str, threads: int, count: int) -> None:
    """Every try sees the same history: the two baseline runs."""
    history = stack.root / "state" / "bench.jsonl"
    before = history.read_bytes()
    for number in range(len(taken.of(model, threads)), count):
        began = time.monotonic()
        run = bench(stack)
        spent = time.monotonic() - began
        load = max(m["load"] for m in run["metrics"].values())
        row = {"model": model, "threads": threads, "judged": judged(run), "seconds": round(spent, 1), "load": load}
        speeds = {name: (m["median"], m["pace"]) for name, m in run["metrics"].items()}
        taken.add({**row, "speeds": speeds, "verdict": run["verdict"]})
        print(
            f"  {number + 1:>2}: {judged(run):<7} {spent:>5.1f} s, prefill {run['prefill_tps']:>9,.0f}, "
            f"decode {run['decode_tps']:>8,.1f} tokens/s, others used up to {load:.0%}",
            flush=True,
        )
        history.write_bytes(before)


def table(taken: Tries) -> list[str]:
    lines = ["| model | threads | tries | called slower | the same | not judged | seconds a run |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for model, threads in dict.fromkeys((row["model"], row["threads"]) for row in taken.rows):
        rows = taken.of(model, threads)
        counts = [sum(row["judged"] == word for row in rows) for word in ("slower", "same", "unsure")]
        seconds = sorted(row["seconds"] for row in rows)
        lines.append(
            f"| {model} | {threads} | {len(rows)} | {counts[0]} | {counts[1]} | {counts[2]} | "
            f"{seconds[len(seconds) // 2]:.0f} (longest {seconds[-1]:.0f}) |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--model", default="demo", help="demo, middle (a made-up one of 60 MB), or a GGUF")
    parser.add_argument("--out", type=Path, help="where tries are kept")
    options = parser.parse_args()
    threads = detect().hardware.cpu.physical_cores
    with tempfile.TemporaryDirectory(prefix="llmstack-figures-") as folder:
        stack = Stack.in_folder(Path(folder) / "home")
        if options.model == "middle":
            stack = stack.with_model(write_probe(MIDDLE, Path(folder) / "middle.gguf"))
        elif options.model != "demo":
            stack = stack.with_model(Path(options.model))
        taken = Tries(options.out or Path(folder) / "tries.jsonl")
        try:
            up(stack, threads)
            for _ in range(2):
                bench(stack)
            print(f"{options.model}, unchanged, {threads} threads:", flush=True)
            tries(stack, taken, options.model, threads, options.tries)
            up(stack, max(threads // 2, 1))
            print(f"{options.model}, {max(threads // 2, 1)} threads:", flush=True)
            tries(stack, taken, options.model, max(threads // 2, 1), options.tries)
        finally:
            stack.end()
        print("\n".join(table(taken)))


if __name__ == "__main__":
    main()
