"""Ten turns of tool calls through the proxy, and straight against llama-server's own /v1/messages: tokens read again.

    .venv/bin/python tests/bench/warm/session.py [MODEL]

Each of the four sessions has a stack in a home of its own (the demo model unless MODEL is given). A turn's figure is
what was computed of its prompt beyond what was new in it: neither in the last prompt nor in the last answer. "as sent"
is a client that echoes what it got; "rewritten" sends inputs back as Claude Code does (other order, "5000" as 5000).
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from warming.session import Session, new_tokens
from warming.stack import running
from warming.talk import Answer, Talker

TURNS = 10


def main(model: str | None) -> None:
    columns: dict[str, list[Answer]] = {}
    for way in ("proxy", "llama-server"):
        for rewrites in (False, True):
            with running(model or "--demo") as stack:
                url, token = (stack.url, stack.token) if way == "proxy" else (stack.server_url, stack.server_key)
                session = Session(Talker(url, token, session="tools"), rewrites=rewrites)
                name = f"{way}, {'rewritten' if rewrites else 'as sent'}"
                columns[name] = [session.turn() for _ in range(TURNS)]
    again = {
        name: [after.computed - new_tokens(after, before) for before, after in pairwise(answers)]
        for name, answers in columns.items()
    }
    print(f"{'turn':<6}{'prompt':>8}" + "".join(f"{name:>26}" for name in columns))
    prompts = next(iter(columns.values()))
    for turn in range(1, TURNS):
        print(f"{turn + 1:<6}{prompts[turn].total:>8,}" + "".join(f"{again[name][turn - 1]:>26,}" for name in columns))
    print(f"{'sum':<14}" + "".join(f"{sum(found):>26,}" for found in again.values()))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
