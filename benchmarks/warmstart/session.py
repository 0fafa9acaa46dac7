"""Ten turns of tool calls and a restart, through the proxy and straight against llama-server's own /v1/messages.

    python -m benchmarks.warmstart.session [MODEL]

Each session has a stack in a home of its own (the demo model unless MODEL is given). The client sends inputs back as
Claude Code does: keys in another order, 5000 for "5000". Before the sixth turn everything is stopped and started
again; for the session without the proxy what the stack had saved is removed then. Shown are the tokens of each turn's
prompt that were computed. They do not depend on the machine's load.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

from support.stack import running
from support.talker import Answer, Talker
from support.tool_session import Session

TURNS = 10
RESTART = 5  # turns before it


def main(model: str | None) -> None:
    columns = {way: _session(way, model) for way in ("proxy", "llama-server")}
    [first, *_] = columns.values()
    print(f"{'turn':<6}{'prompt':>8}{'grew by':>9}" + "".join(f"{name:>15}" for name in columns))
    for turn, (before, answer) in enumerate(pairwise(first), start=1):
        computed = "".join(f"{answers[turn].computed:>15,}" for answers in columns.values())
        restarted = "   after the restart" if turn == RESTART else ""
        print(f"{turn + 1:<6}{answer.total:>8,}{answer.total - before.total:>9,}{computed}{restarted}")
    print(f"{'sum':<23}" + "".join(f"{sum(a.computed for a in found[1:]):>15,}" for found in columns.values()))


def _session(way: str, model: str | None) -> list[Answer]:
    with running(Path(model) if model else None) as stack:
        proxy = way == "proxy"
        url, token = (stack.url, stack.token) if proxy else (stack.server_url, stack.server_key)
        session = Session(Talker(url, token, session="tools"))
        answers = [session.turn() for _ in range(RESTART)]
        stack.do("down")
        if not proxy:
            stack.do("cache", "clear")
        stack.do("up")
        return answers + [session.turn() for _ in range(TURNS - RESTART)]


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
