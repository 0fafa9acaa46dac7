"""A question that another agent hands over, asked through the real proxy."""

from __future__ import annotations

from typing import Any

import pytest

from llmstack.delegate.question import DelegatedAnswer, DelegatedQuestion, ask
from llmstack.errors import NotSo
from support.proxy_stand import TOKEN, ProxyStand
from support.streams import DONE, finish, text
from support.upstream import Upstream, say
from support.wait import free_port

QUESTION = DelegatedQuestion("how many?", {"list.txt": "one\ntwo\n"}, 50)


async def hand_over(stand: ProxyStand, question: DelegatedQuestion = QUESTION) -> tuple[DelegatedAnswer, list[int]]:
    sizes: list[int] = []

    async def note(size: int) -> None:
        sizes.append(size)

    return await ask(stand.url, TOKEN, "local-model", question, note), sizes


async def test_the_answer_comes_back_and_progress_on_the_way(stand: ProxyStand, upstream: Upstream) -> None:
    async def script(asked: Any, wire: Any) -> None:
        await wire.stream(say("there are ", "two"))

    upstream.script = script
    answer, sizes = await hand_over(stand)
    assert answer == DelegatedAnswer("there are two", cut=False)
    assert sizes == sorted(sizes) and sizes[0] == 0 and sizes[-1] == len("there are two")
    sent = upstream.completions[-1].json
    assert "one\ntwo" in str(sent["messages"]) or "one\\ntwo" in str(sent["messages"])
    assert sent["max_tokens"] == 50


async def test_an_answer_that_was_cut_says_so(stand: ProxyStand, upstream: Upstream) -> None:
    async def script(asked: Any, wire: Any) -> None:
        await wire.stream(text("there are"), finish("length"), DONE)

    upstream.script = script
    assert (await hand_over(stand))[0].cut


async def test_what_went_wrong_is_told_with_the_next_command(stand: ProxyStand, upstream: Upstream) -> None:
    async def broken(asked: Any, wire: Any) -> None:
        await wire.stream(text("there"), b'data: {"error":{"message":"out of memory"}}\n\n')

    upstream.script = broken
    with pytest.raises(NotSo, match="out of memory") as broke:
        await hand_over(stand)
    assert broke.value.next and "logs proxy" in broke.value.next
    with pytest.raises(NotSo, match="token"):
        await ask(stand.url, "wrong", "m", QUESTION, _ignore)
    with pytest.raises(NotSo, match="does not answer"):
        await ask(f"http://127.0.0.1:{free_port()}", TOKEN, "m", QUESTION, _ignore)


async def _ignore(size: int) -> None:
    pass
