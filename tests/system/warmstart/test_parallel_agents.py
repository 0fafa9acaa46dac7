"""Side calls and sub-agents that run at the same time leave the main conversation warm (llama.cpp#22746)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from support.stack import Stack
from support.talker import Answer, Talker

AGENTS = ("Searching", "Planning")


def side_call(home: Stack, words: str, together: threading.Barrier) -> None:
    body = {
        "model": "claude-haiku-4-5",
        "max_tokens": 8,
        "system": words,
        "messages": [{"role": "user", "content": "begin"}],
    }
    headers = {"x-api-key": home.token, "x-claude-code-session-id": "main"}
    together.wait(60)
    answer = httpx.post(f"{home.url}/v1/messages", headers=headers, json=body, timeout=120)
    assert answer.status_code == 200, answer.text


def agent(home: Stack, topic: str, together: threading.Barrier) -> list[Answer]:
    """Three turns of a sub-agent; the first ones of all of them are asked at the same moment."""
    talker = Talker(home.url, home.token, session="main", agent=topic, topic=topic)
    turns: list[Any] = [f"{topic}: look around"]
    answers = []
    together.wait(60)
    for more in ("go on", "and now?", ""):
        answers.append(talker.ask(*turns, max_tokens=40))
        turns += [{"role": "assistant", "content": answers[-1].content}, more]
        if not more:
            break
    return answers


@pytest.mark.parametrize(
    "flags",
    [(), ("--parallel", "2"), ("--set", "cram=0"), ("--parallel", "2", "--set", "cram=0")],
    ids=["one slot", "two slots", "one slot without the server's own cache", "two slots without it"],
)
def test_the_main_conversation_goes_on_warm_after_agents_at_the_same_time(
    flags: tuple[str, ...], stack_home: Stack
) -> None:
    stack_home.up("--ctx", "16384", *flags)
    main = Talker(stack_home.url, stack_home.token, session="main", lines=300)
    turns: list[Any] = ["begin"]
    for more in ("go on", "and further"):
        answer = main.ask(*turns, max_tokens=40)
        turns += [{"role": "assistant", "content": answer.content}, more]
    for _ in range(2):
        together = threading.Barrier(len(AGENTS) + 2)
        with ThreadPoolExecutor() as pool:
            agents = [pool.submit(agent, stack_home, topic, together) for topic in AGENTS]
            sides = [
                pool.submit(side_call, stack_home, words, together)
                for words in ("Give a title of five words.", "Say in one word whether this is a question.")
            ]
            for future in (*agents, *sides):
                future.result()
        after = main.ask(*turns, max_tokens=40)
        assert after.cached >= 0.95 * after.total
        turns += [{"role": "assistant", "content": after.content}, "once more"]
        for later in (answer for future in agents for answer in future.result()[1:]):
            assert later.cached >= 0.95 * later.total
    side_call(stack_home, "Give a title of five words.", threading.Barrier(1))
    alone = main.ask(*turns, max_tokens=40)
    assert alone.cached >= 0.95 * alone.total
