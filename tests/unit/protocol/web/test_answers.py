"""The events of an answer: one message, whatever it says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from anthropic.types import Message

from llmstack.protocol import sse
from llmstack.protocol.anthropic import Event, MessageBody, MessageStart, Usage
from llmstack.protocol.message import Assembler
from llmstack.protocol.request import decode
from llmstack.protocol.web import answers
from llmstack.protocol.web.calls import WebCall, WebKind, page_wish, query_of, web_call
from llmstack.protocol.web.hits import WebHit
from llmstack.protocol.web.refusal import WebRefused

HITS = (WebHit("One", "https://a.example/1", "First."), WebHit("Two", "https://a.example/2", "", "yesterday"))
REFUSED = WebRefused("unavailable", "It is down.", "server_error")
SEARCHED = answers.search_results("srvtoolu_1", "q", HITS)
FETCHED = answers.fetched_page("srvtoolu_1", "https://a.example/", "T", "the text", "2026-11-30T08:00:00Z")


def whole(kind: WebKind, rest: list[Event]) -> dict[str, Any]:
    given = {"query": "q"} if kind is WebKind.SEARCH else {"url": "https://a.example/"}
    events = [
        MessageStart(message=MessageBody(id="msg_1", model="m", usage=Usage())),
        *answers.begun(kind.value, "srvtoolu_1", given),
        *rest,
    ]
    assert sse.encode_all(events).count(b"event: ") == len(events)
    assembler = Assembler()
    assembler.receive(events)
    return assembler.message


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        (WebKind.SEARCH, SEARCHED),
        (WebKind.SEARCH, answers.search_results("srvtoolu_1", "q", ())),
        (WebKind.SEARCH, answers.refused_call(WebKind.SEARCH, "srvtoolu_1", REFUSED)),
        (WebKind.FETCH, FETCHED),
        (WebKind.FETCH, answers.refused_call(WebKind.FETCH, "srvtoolu_1", REFUSED)),
    ],
)
def test_an_answer_is_of_the_shape_of_the_official_sdk(kind: WebKind, rest: list[Event]) -> None:
    message = Message.model_validate(whole(kind, rest))
    assert [block.type for block in message.content] == ["server_tool_use", f"{kind}_tool_result", "text"]
    usage = message.usage.server_tool_use
    assert message.stop_reason == "end_turn" and usage is not None
    assert getattr(usage, f"{kind}_requests") == 1


def test_the_text_has_every_source_numbered() -> None:
    text = whole(WebKind.SEARCH, SEARCHED)["content"][2]["text"]
    assert "1. One\nSource: https://a.example/1\nFirst." in text
    assert "2. Two (yesterday)\nSource: https://a.example/2" in text and "not instructions" in text


def test_a_fetched_page_is_a_document() -> None:
    content = whole(WebKind.FETCH, FETCHED)["content"][1]["content"]
    assert content["url"] == "https://a.example/" and content["content"]["source"]["data"] == "the text"


def call(tools: list[dict[str, Any]], content: Any = "what is new?") -> WebCall | None:
    body = {"model": "m", "messages": [{"role": "user", "content": content}], "tools": tools}
    return web_call(decode(msgspec.json.encode(body)))


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
FETCH = {"type": "web_fetch_20250910", "name": "web_fetch"}


def test_a_side_call_has_one_tool_and_it_is_the_web_s() -> None:
    searched, fetched = call([SEARCH]), call([FETCH])
    assert searched is not None and searched.kind is WebKind.SEARCH
    assert fetched is not None and fetched.kind is WebKind.FETCH
    for tools in (
        [],
        [SEARCH, FETCH],
        [{"name": "web_search", "input_schema": {}}],
        [{"type": "web_searching", "name": "x"}],
    ):
        assert call(tools) is None


@pytest.mark.parametrize(
    ("content", "query"),
    [
        ("Perform a web search for the query: red llamas", "red llamas"),
        ([{"type": "text", "text": "<system-reminder>x</system-reminder>"},
          {"type": "text", "text": "Perform a web search for the query: red\nllamas"}], "red llamas"),
        ("red llamas\x00\u202e?", "red llamas?"),
    ],
)  # fmt: skip
def test_the_query_is_what_the_user_s_text_says(content: Any, query: str) -> None:
    searched = call([SEARCH], content)
    assert searched is not None and query_of(searched) == query


def test_one_address_is_fetched_and_its_text_is_as_long_as_the_client_says() -> None:
    fetched = call([{**FETCH, "max_content_tokens": 100}], "Read https://a.example/x please")
    assert fetched is not None
    wish = page_wish(fetched)
    assert (wish.address.url, wish.characters) == ("https://a.example/x", 400)
    for text in ("no address", "https://a.example/ and https://b.example/"):
        other = call([FETCH], text)
        assert other is not None
        with pytest.raises(WebRefused) as refused:
            page_wish(other)
        assert refused.value.code == "invalid_tool_input"
