"""`--minutes N`: growth under load, beside the figures of the last run; `--kills N --seed S`: rounds of kills."""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.soak import growth, kills
from support.paths import ROOT

KEPT = ROOT / "docs" / "measurements" / "soak.json"


def show(one: kills.Round) -> None:
    """On stderr, as it goes."""
    print(f"round {one.number}: {one.what}, ready in {one.ready_s:.1f} s {'; '.join(one.wrong)}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write the figures to docs/measurements/soak.json")
    asked = parser.parse_args()
    if asked.kills:
        rounds = kills.play(asked.kills, asked.seed, on_round=show)
        slowest = max(rounds, key=lambda one: one.ready_s)
        figures = {
            "rounds": len(rounds),
            "seed": asked.seed,
            "wrong": sum(bool(one.wrong) for one in rounds),
            "slowest_s": round(slowest.ready_s, 1),
            "slowest": slowest.what,
        }
        kind, bad = "kills", bool(figures["wrong"])
    else:
        figures = growth.measure(asked.minutes, asked.seed).figures()
        kind, bad = "growth", bool(figures["broken"])
    last = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    print(json.dumps({"now": figures, "last": last.get(kind)}, indent=2))
    if asked.keep:
        KEPT.write_text(json.dumps({**last, kind: figures}, indent=2) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
