"""Does the prompt fit? What is decided by size, what by an earlier count, and when the server itself is asked."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from llmstack.catalog.routes import Target, parse
from llmstack.protocol.errors import Cause, Refused, unavailable
from llmstack.protocol.request import ChatRequest, Dialect, Translator, decode
from llmstack.proxy.engine_deaths import EngineDeaths
from llmstack.proxy.preflight import Preflight
from llmstack.proxy.upstreams import Upstreams
from llmstack.warmstart.interface import silent

TRANSLATOR = Translator()


class FakeServer:
    """Counts what llama-server would: `tokens` for any prompt; None: it has no such paths."""

    deaths = EngineDeaths(None, silent)

    def __init__(self, tokens: int | None) -> None:
        self.tokens = tokens
        self.paths: list[str] = []

    async def json(self, target: Target, path: str, body: bytes, timeout_s: float) -> Any:
        self.paths.append(path)
        if self.tokens is None:
            raise Refused(unavailable("no such path", Cause.UPSTREAM))
        if path == "/v1/chat/completions/input_tokens":
            return {"input_tokens": self.tokens}
        if path == "/apply-template":
            assert set(msgspec.json.decode(body)) <= {"messages", "tools"}
            return {"prompt": "the prompt"}
        assert msgspec.json.decode(body)["content"] == "the prompt"
        return {"tokens": [0] * self.tokens}


def target() -> Target:
    route = parse('[upstreams.local]\nkind = "llama-server"\n[[routes]]\nmatch = "*"\nupstream = "local"\n').choose("m")
    assert route is not None
    return route.targets[0]


def chat(*texts: str, **more: Any) -> ChatRequest:
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    return TRANSLATOR.to_chat(decode(msgspec.json.encode({"model": "m", "messages": messages, **more})), Dialect())


def preflight(tokens: int | None, most: int = 4096) -> tuple[Preflight, FakeServer]:
    server = FakeServer(tokens)
    return Preflight(cast(Upstreams, server), most), server


async def test_a_small_prompt_passes_without_a_question() -> None:
    checker, server = preflight(9)
    counted = await checker.check(target(), chat("short"), 65536)
    assert not counted.exact and counted.tokens <= counted.most < 65536 and not server.paths


async def test_a_prompt_whose_size_does_not_decide_is_counted_by_the_server() -> None:
    checker, server = preflight(1000)
    counted = await checker.check(target(), chat("word " * 1000), 2000)
    assert counted.exact and counted.tokens == counted.most == 1000
    assert server.paths == ["/apply-template", "/tokenize"]


async def test_one_that_does_not_fit_is_refused_in_the_words_the_client_knows() -> None:
    checker, _ = preflight(2000)
    with pytest.raises(Refused, match="prompt is too long: 2000 tokens > 2000 maximum"):
        await checker.check(target(), chat("word " * 1000), 2000)


@pytest.mark.parametrize("tokens", [None])
async def test_a_server_that_cannot_count_decides_by_itself(tokens: None) -> None:
    checker, server = preflight(tokens)
    counted = await checker.check(target(), chat("word " * 1000), 2000)
    assert not counted.exact and server.paths == ["/apply-template"]


def picture(data: str = "AAAA") -> ChatRequest:
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    body = {"model": "m", "messages": [{"role": "user", "content": [block]}]}
    return TRANSLATOR.to_chat(decode(msgspec.json.encode(body)), Dialect())


async def test_pictures_are_counted_by_the_server_with_its_image_encoder() -> None:
    checker, server = preflight(10)
    counted = await checker.check(target(), picture(), 2000)
    assert counted.exact and counted.tokens == 10 and server.paths == ["/v1/chat/completions/input_tokens"]


async def test_a_server_that_cannot_count_pictures_decides_by_itself() -> None:
    checker, _ = preflight(None)
    counted = await checker.check(target(), picture(), 2000)
    assert counted.most >= 4096 and not counted.exact


async def test_a_large_picture_is_no_long_text() -> None:
    checker, server = preflight(None)
    counted = await checker.check(target(), picture("A" * 4_000_000), 65536)
    assert counted.tokens < 2000 and counted.most < 6000 and not server.paths
    assert checker.rough(picture("A" * 4_000_000)) < 2000
    assert checker.estimate(picture("A" * 4_000_000), 8000).tokens < 2000


async def test_no_limit_is_known_and_nothing_is_asked() -> None:
    checker, server = preflight(10)
    assert not (await checker.check(target(), chat("word " * 99999), None)).exact and not server.paths


async def test_a_conversation_that_was_counted_once_grows_only_by_what_was_added() -> None:
    checker, server = preflight(1000)
    limit = 3000
    first = await checker.check(target(), chat("word " * 1000), limit)
    checker.learn(first, 1003)
    again = await checker.check(target(), chat("word " * 1000), limit)
    assert again.exact and again.tokens == 1003
    grown = await checker.check(target(), chat("word " * 1000, "an answer", "a question"), limit)
    assert 1003 < grown.tokens < grown.most < limit and not grown.exact
    assert len(server.paths) == 2, "the server was asked once"


async def test_other_tools_make_another_prompt() -> None:
    checker, _ = preflight(None)
    counted = await checker.check(target(), chat("same"), None)
    checker.learn(counted, 77)
    tools = [{"name": "t", "input_schema": {"type": "object"}}]
    assert not (await checker.check(target(), chat("same", tools=tools), None)).exact
    assert (await checker.check(target(), chat("same"), None)).tokens == 77


async def test_what_the_upstream_did_not_count_teaches_nothing() -> None:
    checker, _ = preflight(None)
    checker.learn(await checker.check(target(), chat("a"), None), 0)
    assert not (await checker.check(target(), chat("a"), None)).exact


async def test_only_the_last_conversations_are_remembered() -> None:
    checker, _ = preflight(None, most=2)
    for text in ("a", "b", "c"):
        checker.learn(await checker.check(target(), chat(text), None), 50)
    assert not (await checker.check(target(), chat("a"), None)).exact
    assert (await checker.check(target(), chat("c"), None)).exact


def test_an_upstream_that_counts_nothing_is_estimated_and_corrected_by_its_last_count() -> None:
    checker, server = preflight(None)
    with pytest.raises(Refused, match="prompt is too long"):
        checker.estimate(chat("word " * 10000), 1000)
    counted = checker.estimate(chat("word " * 100), 1000)
    checker.learn(counted, 990)
    with pytest.raises(Refused, match="> 1000 maximum"):
        checker.estimate(chat("word " * 100, "yes", "more words than there is room for " * 3), 1000)
    assert not server.paths
