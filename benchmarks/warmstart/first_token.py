"""First-token time of the real Claude Code, cold, warm, after a restart of the whole stack, and in another directory.

    python -m benchmarks.warmstart.first_token PATH_OF_CLAUDE [MODEL]

Starts a stack in a home of its own (the demo model unless MODEL is given) and ends it. The time is the whole run of the
request in the proxy, of which the demo's short answer is a small part; the client's own start is not in it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from support.claude_code import plain, run
from support.stack import Stack, running


def main(claude: str, model: str | None) -> None:
    with running(Path(model) if model else None) as stack:
        _figures(stack, claude)


def _figures(stack: Stack, claude: str) -> None:
    cold = _run(stack, claude, "one")
    warm = _run(stack, claude, "one")
    stack.do("restart")
    restarted = _run(stack, claude, "one")
    other = _run(stack, claude, "two")
    print(f"{'':<20}{'seconds':>9}{'tokens':>9}{'reused':>9}{'computed':>9}")
    for name, line in (("cold", cold), ("warm", warm), ("after a restart", restarted), ("another directory", other)):
        reused = line["prefix"]["reused"]
        told = (line["total_ms"] / 1000, line["tokens_in"], reused, line["tokens_in"] - reused)
        print(f"{name:<20}{told[0]:>9.2f}{told[1]:>9,}{told[2]:>9,}{told[3]:>9,}")
    print(f"after a restart: {restarted['total_ms'] / warm['total_ms']:.2f} x warm, ", end="")
    print(f"{cold['total_ms'] / restarted['total_ms']:.1f} x faster than cold")


def _run(stack: Stack, claude: str, directory: str) -> dict[str, Any]:
    # Each run asks something else: the same words would flatter the figure of the second.
    words = f"ping {os.urandom(3).hex()}"
    return run([claude, "-p", words], plain(stack.url, stack.token), stack.root, directory, timeout_s=900)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
