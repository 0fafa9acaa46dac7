"""Plays seeds: `0-9999`, or one of them with --trace."""

from __future__ import annotations

import sys
import time

from support.simulation.world import grounds, play


def main(argv: list[str]) -> int:
    first, _, last = argv[0].partition("-")
    seeds = range(int(first), int(last or first) + 1)
    began, failed, steps, requests = time.perf_counter(), 0, 0, 0
    with grounds() as ground:
        for seed in seeds:
            outcome = play(ground, seed)
            steps, requests = steps + outcome.steps, requests + outcome.requests
            if "--trace" in argv:
                print("\n".join(outcome.story))
            if outcome.broken:
                failed += 1
                print(f"seed {seed}: {'; '.join(dict.fromkeys(outcome.broken))[:600]}", flush=True)
    spent = time.perf_counter() - began
    print(f"{len(seeds)} seeds, {requests} requests, {steps} steps in {spent:.1f} s; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
