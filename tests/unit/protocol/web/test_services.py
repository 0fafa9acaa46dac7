"""What each back end answers, read from samples written by hand; how each is asked."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.protocol.limits import most
from llmstack.protocol.web.calls import SearchWish
from llmstack.protocol.web.domains import DomainRules, domain_rules
from llmstack.protocol.web.hits import WebHit
from llmstack.protocol.web.refusal import WebRefused
from llmstack.protocol.web.services import SERVICES, last_word, permitted, read_answer, refused_by

SAMPLES: dict[str, Any] = {
    "searxng": {
        "query": "llamas",
        "number_of_results": 0,
        "results": [
            {
                "url": "https://a.example/1",
                "title": "One",
                "content": "First &lt;b&gt; text",
                "engine": "x",
                "score": 1.0,
            },
            {"url": "https://a.example/2", "title": "Two", "content": None, "publishedDate": "2026-10-01T00:00:00"},
        ],
        "answers": [],
        "infoboxes": [],
    },
    "brave": {
        "type": "search",
        "query": {"original": "llamas"},
        "web": {
            "type": "search",
            "results": [
                {"title": "One", "url": "https://a.example/1", "description": "First <strong>&lt;b&gt;</strong> text"},
                {"title": "Two", "url": "https://a.example/2", "page_age": "2026-10-01T00:00:00", "age": "8 weeks ago"},
            ],
        },
    },
    "tavily": {
        "query": "llamas",
        "answer": None,
        "results": [
            {"title": "One", "url": "https://a.example/1", "content": "First &lt;b&gt; text", "score": 0.9},
            {"title": "Two", "url": "https://a.example/2", "published_date": "2026-10-01T00:00:00"},
        ],
    },
    "command": [
        {"title": "One", "url": "https://a.example/1", "snippet": "First <b> text"},
        {"title": "Two", "url": "https://a.example/2", "page_age": "2026-10-01T00:00:00"},
    ],
}


NAMES = st.sampled_from(["results", "web", "title", "url", "content", "type", "error"])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner)
)


@pytest.mark.parametrize("name", SERVICES)
def test_the_results_of_each_back_end_are_read(name: str) -> None:
    assert read_answer(SERVICES[name], json.dumps(SAMPLES[name]).encode()) == [
        WebHit("One", "https://a.example/1", "First <b> text"),
        WebHit("Two", "https://a.example/2", "", "2026-10-01T00:00:00"),
    ]


@pytest.mark.parametrize("name", SERVICES)
@given(value=ANY)
def test_an_answer_of_any_shape_is_results_or_a_refusal(name: str, value: Any) -> None:
    try:
        hits = read_answer(SERVICES[name], json.dumps(value).encode())
    except WebRefused as refused:
        assert refused.cause == "malformed"
    else:
        assert all(hit.url.startswith("http") for hit in hits)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xfe", b"null", b'"x"', b"7", b"[" * 5000])
@pytest.mark.parametrize("name", SERVICES)
def test_what_is_no_answer_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(WebRefused, match="as its API does"):
        read_answer(SERVICES[name], data)


@pytest.mark.parametrize("name", SERVICES)
def test_titles_snippets_and_addresses_of_strangers_are_made_fit_to_be_shown(name: str) -> None:
    bad = {"title": "a\x1b[31m\u202eb\u200b\U000e0041c\n d" + "x" * 999, "url": "https://a.example/"}
    bad |= dict.fromkeys(("content", "description", "snippet"), "line\r\none\x00" + "y" * 5000)
    urls: tuple[Any, ...] = (
        "javascript:x",
        "file:///etc/passwd",
        "https://u:p@a.example/",
        "https://a b",
        "//x",
        "https://",
        7,
        None,
    )
    rows = [
        bad,
        *({"title": "t", "url": url} for url in urls),
        {"title": "t", "url": "https://a.example/" + "z" * 3000},
    ]
    shape = {"searxng": {"results": rows}, "tavily": {"results": rows}, "brave": {"web": {"results": rows}}}
    [hit] = read_answer(SERVICES[name], json.dumps(shape.get(name, rows)).encode())
    assert hit.title.startswith("a[31mbc d") and len(hit.title) == most("web_title")
    assert hit.snippet.startswith("line one") and len(hit.snippet) == most("web_snippet")
    assert hit.title.isprintable() and hit.snippet.isprintable()


def wish(**lists: Any) -> SearchWish:
    return SearchWish("big llamas", domain_rules(lists.get("allowed"), lists.get("blocked")))


def test_lists_go_along_as_each_back_end_takes_them() -> None:
    def brave(wished: SearchWish) -> str:
        return parse_qs(urlsplit(SERVICES["brave"].exchange("https://b", wished, "k").url).query)["q"][0]

    assert brave(wish()) == "big llamas"
    assert brave(wish(allowed=["a.example", "b.example/x"])) == "big llamas (site:a.example OR site:b.example)"
    assert brave(wish(blocked=["a.example", "b.example/x"])) == "big llamas -site:a.example"
    assert brave(wish(allowed=[f"host{n}.example" for n in range(60)])) == "big llamas", "it would be too long"
    tavily = json.loads(SERVICES["tavily"].exchange("https://t", wish(blocked=["a.example"]), "k").body or b"")
    assert tavily["exclude_domains"] == ["a.example"] and "include_domains" not in tavily


def test_a_key_is_in_a_header_alone() -> None:
    for name in ("brave", "tavily"):
        exchange = SERVICES[name].exchange("https://h", wish(), "the-key")
        assert "the-key" not in exchange.url and b"the-key" not in (exchange.body or b"")
        assert any("the-key" in value for value in exchange.headers.values())


def test_results_are_held_against_the_lists_each_once_and_up_to_the_limit() -> None:
    hits = [WebHit("t", f"https://{host}/{n}") for n in range(30) for host in ("a.example", "b.example")]
    assert len(permitted([*hits, *hits], DomainRules())) == most("web_results")
    assert permitted([hits[0], hits[0]], DomainRules()) == [hits[0]]
    kept_out = permitted(hits, domain_rules(None, ["a.example"]))
    assert all("b.example" in hit.url for hit in kept_out) and len(kept_out) == most("web_results")


def test_a_query_is_never_a_command_s_option() -> None:
    assert last_word("-rf") == " -rf" and last_word("llamas") == "llamas"


@pytest.mark.parametrize("status", [204, 301, 400, 401, 402, 403, 404, 418, 422, 429, 432, 433, 500, 502, 529])
@pytest.mark.parametrize("name", ["searxng", "brave", "tavily"])
def test_every_status_has_a_code_a_cause_and_a_sentence_of_its_own(name: str, status: int) -> None:
    refused = refused_by(SERVICES[name], status, b"secret words of the other side")
    assert refused.code == ("too_many_requests" if status in (402, 429, 432, 433) else "unavailable")
    assert name in refused.sentence and str(status) in refused.sentence and "secret" not in refused.sentence
    assert refused.cause.isidentifier()
