"""First-token time, cold, warm and after a restart of the whole stack, on three kinds of made-up models.

    python -m benchmarks.warmstart.model_kinds [LINES [CONTEXT [KIND...]]]

LINES of system text: about 27 tokens each. The clock runs from the request to the first piece of text. Each question is
a new one. Cold is the first request of a new home. Warm and after a restart are medians: ROUNDS times in turns two
requests are asked, of which the second counts as warm, then the stack is restarted and asked.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from support.models import write_model
from support.stack import Stack, running
from support.talker import Answer, Talker

KINDS = {
    "dense": ("dense", ()),
    "hybrid": ("hybrid", ()),
    "window, --swa-full": ("window", ("--set", "swa-full=on")),
    "window": ("window", ()),  # as planned: --swa-full for builds before 11506 only
}


ROUNDS = 5


def main(lines: int = 600, context: int = 32768, *kinds: str) -> None:
    print(f"{'model':<20}{'tokens':>8}{'cold s':>9}{'warm s':>9}{'restart s':>11}{'computed':>10}", end="")
    print(f"{'x warm':>8}{'x faster than cold':>20}", flush=True)
    with tempfile.TemporaryDirectory(prefix="llmstack-bench-") as folder:
        for name in kinds or KINDS:
            kind, flags = KINDS[name]
            model = write_model(kind, Path(folder) / f"{kind}.gguf")
            with running(model, "--ctx", str(context), *flags) as stack:
                cold = _ask(stack, lines)
                warm, restarted = [], []
                for _ in range(ROUNDS):
                    _ask(stack, lines)
                    warm.append(_ask(stack, lines).first_s)
                    stack.do("restart")
                    again = _ask(stack, lines)
                    restarted.append(again.first_s)
            usual, after = statistics.median(warm), statistics.median(restarted)
            told = f"{cold.first_s:>9.2f}{usual:>9.3f}{after:>11.3f}{again.computed:>10,}"
            rates = f"{after / usual:>8.2f}{cold.first_s / after:>20.1f}"
            print(f"{name:<20}{cold.total:>8,}{told}{rates}   {_listed(warm)} -> {_listed(restarted)}", flush=True)


def _ask(stack: Stack, lines: int) -> Answer:
    words = os.urandom(3).hex()
    return Talker(stack.url, stack.token, session=words, lines=lines).ask(f"a question about {words}", max_tokens=8)


def _listed(seconds: list[float]) -> str:
    return " ".join(f"{1000 * value:.0f}" for value in sorted(seconds)) + " ms"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:])
