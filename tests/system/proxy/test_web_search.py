"""The real Claude Code searches the web on a stack whose user has chosen a back end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from support.claude_code import Claude
from support.claude_turns import call, conversation, is_main, results, turn
from support.proxy_stand import ProxyStand, standing
from support.upstream import Asked, Upstream, Wire, say

HITS = [
    {"url": "https://wool.example.org/a", "title": "Wool of llamas", "content": "Llama wool has no lanolin."},
    {"url": "https://spit.example.com/b", "title": "Why they spit", "content": "They spit at each other."},
]


@pytest.fixture
def claude(claude_code: Path, tmp_path: Path) -> Claude:
    return Claude(claude_code, tmp_path / "home", tmp_path / "work")


@pytest.fixture
def searxng() -> Iterator[Upstream]:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.json({"results": HITS})

    server = Upstream(script)
    yield server
    server.close()


@pytest.fixture
def search(tmp_path: Path, upstream: Upstream, searxng: Upstream) -> Iterator[ProxyStand]:
    """A proxy with that back end, as `web-search use searxng` leaves it."""
    root = tmp_path / "stand"
    (root / "config").mkdir(parents=True)
    (root / "config" / "web.json").write_text(json.dumps({"service": "searxng", "base_url": searxng.url}))
    with standing(root, upstream.port) as stand:
        yield stand


def test_its_web_search_shows_results_with_their_sources_and_no_model_makes_it(
    search: ProxyStand, upstream: Upstream, searxng: Upstream, claude: Claude
) -> None:
    """The tool is a deferred one: the model loads it first."""
    upstream.script = conversation(
        turn(call("ToolSearch", json.dumps({"query": "select:WebSearch", "max_results": 1}))),
        turn(call("WebSearch", json.dumps({"query": "llama wool"}))),
        lambda asked: say("I read: " + " ".join(results(asked)[-1].split())),
    )
    done = claude.run(search, "what is special about llama wool?")
    assert done.status == 0, done.err
    main = [asked for asked in upstream.completions if is_main(asked)][-1]
    seen = results(main)[-1]
    for hit in HITS:
        assert hit["title"] in seen and hit["url"] in seen and hit["content"] in seen
    assert "Llama wool has no lanolin." in done.out
    [asked] = searxng.asked
    assert parse_qs(asked.body.decode())["q"] == ["llama wool"]
    assert not any("Perform a web search" in asked.body.decode() for asked in upstream.asked), "no slot was touched"
    [line] = [line for line in search.requests() if "web" in line]
    assert (line["web_result"], line["upstream"], line["stream"]) == ("ok", "proxy", True)


def test_a_list_of_domains_reaches_the_back_end_and_is_kept(
    search: ProxyStand, upstream: Upstream, searxng: Upstream, claude: Claude
) -> None:
    wanted_domain = json.dumps({"query": "llama wool", "allowed_domains": ["example.org"]})
    upstream.script = conversation(
        turn(call("ToolSearch", json.dumps({"query": "select:WebSearch", "max_results": 1}))),
        turn(call("WebSearch", wanted_domain)),
        say("done"),
    )
    assert claude.run(search, "search in example.org").status == 0
    seen = results([asked for asked in upstream.completions if is_main(asked)][-1])[-1]
    assert "https://wool.example.org/a" in seen and "spit.example.com" not in seen
    assert "site:example.org" in parse_qs(searxng.asked[0].body.decode())["q"][0]


def test_a_back_end_that_fails_is_told_to_the_model_and_the_session_goes_on(
    search: ProxyStand, upstream: Upstream, searxng: Upstream, claude: Claude
) -> None:
    async def forbidden(asked: Asked, wire: Wire) -> None:
        await wire.whole(b"", 403)

    searxng.script = forbidden
    upstream.script = conversation(
        turn(call("ToolSearch", json.dumps({"query": "select:WebSearch", "max_results": 1}))),
        turn(call("WebSearch", json.dumps({"query": "llama wool"}))),
        say("without the web, then"),
    )
    done = claude.run(search, "search the web")
    assert done.status == 0 and "without the web, then" in done.out
    seen = results([asked for asked in upstream.completions if is_main(asked)][-1])[-1]
    assert "unavailable" in seen and "search.formats" in seen
