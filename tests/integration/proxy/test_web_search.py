"""A side call for a web search, through the real proxy, to a back end that a test scripts."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from anthropic import Anthropic as Sdk

from support.proxy_stand import TOKEN, Answer, ProxyStand, standing
from support.upstream import Asked, Script, Upstream, Wire
from support.wait import eventually, free_port

QUERY = "llama facts"
TOOL = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
RESULTS = [
    {"title": "Llamas <b>hum</b>", "url": "https://example.com/hum", "content": "They hum &amp; spit."},
    {"title": "Wool", "url": "https://wool.example.org/a", "content": "Soft.", "publishedDate": "2026-11-01"},
    {"title": "Bad", "url": "javascript:alert(1)", "content": "no"},
]
KEY = "key-of-the-back-end-0123456789"


async def searxng(asked: Asked, wire: Wire) -> None:
    await wire.json({"query": "x", "results": RESULTS})


@pytest.fixture(scope="module")
def module_back_end() -> Iterator[Upstream]:
    server = Upstream(searxng)
    yield server
    server.close()


@pytest.fixture
def back_end(module_back_end: Upstream) -> Upstream:
    module_back_end.script = searxng
    module_back_end.asked.clear()
    return module_back_end


@pytest.fixture
def search(stand: ProxyStand, back_end: Upstream) -> Iterator[ProxyStand]:
    """The proxy, told to search with the scripted back end as SearXNG."""
    use(stand, service="searxng", base_url=back_end.url)
    yield stand
    use(stand)


def use(stand: ProxyStand, key: str = "", **settings: Any) -> None:
    """What `web-search use` writes, taken up by the running proxy."""
    if key:
        keys = stand.root / "config" / "keys"
        keys.mkdir(exist_ok=True, mode=0o700)
        file = keys / f"web-search.{settings['service']}"
        file.write_text(key + "\n")
        file.chmod(0o600)
    before = sum(line["event"] == "web" for line in stand.log)
    new = stand.root / "config" / "web.new"
    new.write_text(json.dumps(settings))
    new.replace(stand.root / "config" / "web.json")
    eventually(lambda: sum(line["event"] == "web" for line in stand.log) > before, within_s=5)


def side_call(text: str = f"Perform a web search for the query: {QUERY}", stream: bool = True, **tool: Any) -> Any:
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": text}], "tools": [TOOL | tool]}
    return body | ({"stream": True} if stream else {})


def blocks(answer: Answer) -> list[dict[str, Any]]:
    """The content blocks of a streamed answer, put together."""
    content: list[dict[str, Any]] = []
    for name, event in answer.events:
        if name == "content_block_start":
            content.append(dict(event["content_block"]))
        elif name == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            content[-1]["input"] = json.loads(event["delta"]["partial_json"])
        elif name == "content_block_delta":
            content[-1]["text"] += event["delta"]["text"]
    return content


def error(answer: Answer) -> tuple[str, str]:
    """The code, and the sentence behind it."""
    use_block, result, text = blocks(answer)
    assert use_block["type"] == "server_tool_use" and result["tool_use_id"] == use_block["id"]
    assert result["content"]["type"] == "web_search_tool_result_error"
    return result["content"]["error_code"], text["text"]


def result_of(stand: ProxyStand) -> str:
    """As the log line has it, which comes a moment after the answer."""
    eventually(stand.requests, within_s=10)
    return str(stand.requests()[-1]["web_result"])


def test_a_side_call_is_answered_by_the_back_end_and_no_model_is_asked(
    search: ProxyStand, back_end: Upstream, upstream: Upstream
) -> None:
    answer = search.post(side_call())
    names = [name for name, _ in answer.events]
    assert names[0] == "message_start" and names[-2:] == ["message_delta", "message_stop"]
    use_block, result, text = blocks(answer)
    assert (use_block["type"], use_block["name"], use_block["input"]) == (
        "server_tool_use", "web_search", {"query": QUERY},
    )  # fmt: skip
    assert use_block["id"].startswith("srvtoolu_") and result["tool_use_id"] == use_block["id"]
    assert [(hit["type"], hit["title"], hit["url"]) for hit in result["content"]] == [
        ("web_search_result", "Llamas hum", "https://example.com/hum"),
        ("web_search_result", "Wool", "https://wool.example.org/a"),
    ]
    assert result["content"][1]["page_age"] == "2026-11-01"
    assert "1. Llamas hum" in text["text"] and "Source: https://example.com/hum" in text["text"]
    assert "They hum & spit." in text["text"] and "javascript" not in text["text"]
    last = answer.events[-2][1]
    assert last["delta"]["stop_reason"] == "end_turn"
    assert last["usage"]["server_tool_use"] == {"web_search_requests": 1, "web_fetch_requests": 0}
    [asked] = back_end.asked
    form = parse_qs(asked.body.decode())
    assert asked.path == "/search" and form["q"] == [QUERY] and form["format"] == ["json"]
    assert upstream.asked == []


def test_the_log_and_the_figures_count_the_search_and_neither_has_the_query(search: ProxyStand) -> None:
    search.forget_log()
    search.post(side_call("Perform a web search for the query: unusual words"))
    eventually(search.requests, within_s=10)
    [line] = search.requests()
    assert (line["upstream"], line["web"], line["web_result"]) == ("proxy", "web_search", "ok")
    assert 'llmstack_web_total{result="ok",tool="web_search"}' in search.get("/metrics").data.decode()
    assert "unusual" not in search.log_path.read_text()


def test_the_official_sdk_reads_a_whole_answer_and_its_stream(search: ProxyStand) -> None:
    sdk = Sdk(base_url=search.url, api_key=TOKEN, max_retries=0)
    asked: Any = side_call(stream=False)
    message = sdk.messages.create(**asked)
    assert [block.type for block in message.content] == ["server_tool_use", "web_search_tool_result", "text"]
    assert message.stop_reason == "end_turn" and message.usage.server_tool_use is not None
    assert message.usage.server_tool_use.web_search_requests == 1
    assert message.content[1].content[0].url == "https://example.com/hum"  # type: ignore[union-attr, index]
    with sdk.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == [block.type for block in message.content]
    assert final.content[0].input == {"query": QUERY}  # type: ignore[union-attr]


def test_every_dated_version_is_answered_and_another_tool_beside_it_is_none(
    search: ProxyStand, back_end: Upstream, upstream: Upstream
) -> None:
    for kind in ("web_search_20260209", "web_search_20260318", "web_search_20991231"):
        assert blocks(search.post(side_call(type=kind)))[1]["type"] == "web_search_tool_result"
    back_end.asked.clear()
    body = side_call()
    body["tools"].append({"name": "Read", "input_schema": {"type": "object"}})
    assert search.post(body).said == "Hello" and len(upstream.completions) == 1
    assert back_end.asked == []


def test_without_a_back_end_everything_is_as_before(stand: ProxyStand, back_end: Upstream) -> None:
    code, sentence = error(stand.post(side_call()))
    assert code == "unavailable" and "web_search is not available" in sentence and back_end.asked == []


def test_the_whole_last_user_text_is_the_query_where_nothing_else_says_one(
    search: ProxyStand, back_end: Upstream
) -> None:
    search.post(side_call("what do\n llamas\x07 eat?"))
    assert parse_qs(back_end.asked[0].body.decode())["q"] == ["what do llamas eat?"]


@pytest.mark.parametrize(
    ("lists", "urls", "query"),
    [
        ({"allowed_domains": ["example.com"]}, ["https://example.com/hum"], f"{QUERY} site:example.com"),
        ({"allowed_domains": ["example.org"]}, ["https://wool.example.org/a"], f"{QUERY} site:example.org"),
        ({"blocked_domains": ["example.com/hum"]}, ["https://wool.example.org/a"], QUERY),
        ({"blocked_domains": ["wool.example.org"]}, ["https://example.com/hum"], f"{QUERY} -site:wool.example.org"),
        ({"allowed_domains": [], "blocked_domains": []}, [RESULTS[0]["url"], RESULTS[1]["url"]], QUERY),
    ],
)
def test_domain_lists_are_passed_on_and_held_against_the_results(
    search: ProxyStand, back_end: Upstream, lists: Any, urls: list[str], query: str
) -> None:
    _, result, _ = blocks(search.post(side_call(**lists)))
    assert [hit["url"] for hit in result["content"]] == urls
    assert parse_qs(back_end.asked[0].body.decode())["q"] == [query]


@pytest.mark.parametrize(
    ("text", "tool", "code", "says"),
    [
        ("Perform a web search for the query: ", {}, "invalid_tool_input", "no query"),
        ("x" * 1001, {}, "query_too_long", "1000 characters"),
        (QUERY, {"max_uses": 0}, "max_uses_exceeded", "max_uses"),
        (QUERY, {"max_uses": "many"}, "invalid_tool_input", "max_uses"),
        (QUERY, {"allowed_domains": ["a.example"], "blocked_domains": ["b.example"]}, "invalid_tool_input", "together"),
        (QUERY, {"allowed_domains": ["https://a.example"]}, "invalid_tool_input", "without a scheme"),
    ],
)
def test_what_is_wrong_with_a_call_is_named_and_nobody_is_asked(
    search: ProxyStand, back_end: Upstream, text: str, tool: Any, code: str, says: str
) -> None:
    answered, sentence = error(search.post(side_call(text, **tool)))
    assert answered == code and says in sentence and back_end.asked == []


def answers(status: int, body: bytes = b"{}", **headers: str) -> Script:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.whole(body, status, "application/json", **headers)

    return script


async def cut(asked: Asked, wire: Wire) -> None:
    await wire.begin("application/json")
    await wire.send(b'{"results": [')
    wire.cut()


async def endless(asked: Asked, wire: Wire) -> None:
    await wire.begin("application/json")
    for _ in range(6):
        await wire.send(b" " * 1024 * 1024)
    await wire.end()


@pytest.mark.parametrize(
    ("script", "code", "says", "cause"),
    [
        (answers(401), "unavailable", "wants a login", "key"),
        (answers(403), "unavailable", "search.formats", "no_json"),
        (answers(404), "unavailable", "no searxng at its address", "no_api"),
        (answers(429), "too_many_requests", "too often", "rate_limit"),
        (answers(500), "unavailable", "failed (500)", "server_error"),
        (answers(503), "unavailable", "failed (503)", "server_error"),
        (answers(400), "unavailable", "did not take", "refused"),
        (answers(302, location="http://127.0.0.1:1/?q=secret"), "unavailable", "another address", "redirect"),
        (answers(200, b"<html>"), "unavailable", "as its API does", "malformed"),
        (answers(200, b'{"results": 7}'), "unavailable", "as its API does", "malformed"),
        (answers(200, b"[" * 100_000), "unavailable", "as its API does", "malformed"),
        (cut, "unavailable", "broke off", "cut"),
        (endless, "unavailable", "more than an answer may have", "too_large"),
    ],
)
def test_each_failure_of_a_back_end_has_its_code_and_its_sentence(
    search: ProxyStand, back_end: Upstream, script: Script, code: str, says: str, cause: str
) -> None:
    back_end.script = script
    search.forget_log()
    answered, sentence = error(search.post(side_call()))
    assert (answered, says in sentence) == (code, True), sentence
    assert "secret" not in sentence and QUERY not in sentence
    assert result_of(search) == cause


def test_a_back_end_that_is_not_there_is_named(stand: ProxyStand) -> None:
    use(stand, service="searxng", base_url=f"http://127.0.0.1:{free_port()}")
    code, sentence = error(stand.post(side_call()))
    use(stand)
    assert code == "unavailable" and "cannot be reached" in sentence and "web-search test" in sentence


async def silent(asked: Asked, wire: Wire) -> None:
    await wire.until_gone(60)


def test_a_client_gets_signs_of_life_until_the_time_for_a_search_is_over(
    tmp_path: Path, upstream: Upstream, back_end: Upstream
) -> None:
    back_end.script = silent
    models = '[[routes]]\nmatch = "*"\nupstream = "local"\nkeepalive_s = 1.0\n'
    with standing(tmp_path / "h", upstream.port, models=models) as stand:
        use(stand, service="searxng", base_url=back_end.url)
        begun = time.monotonic()
        answer = stand.post(side_call(), timeout_s=60)
        took = time.monotonic() - begun
    code, sentence = error(answer)
    assert code == "unavailable" and "did not answer within 20 s" in sentence and took < 40
    signs = [event for name, event in answer.events if name == "message_delta" and not event["delta"]["stop_reason"]]
    assert len(signs) >= 5 and all(sign["usage"]["output_tokens"] == 0 for sign in signs)


def test_a_client_that_leaves_ends_its_search(search: ProxyStand, back_end: Upstream) -> None:
    back_end.script = silent
    connection = search.raw(search.head(side_call()))
    eventually(lambda: len(back_end.asked) == 1, within_s=10)
    connection.close()
    eventually(lambda: back_end.asked[0].gone_at is not None, within_s=15)


def test_brave_gets_its_key_and_no_error_shows_it(stand: ProxyStand, back_end: Upstream) -> None:
    found = {"type": "search", "web": {"results": [{"title": "T", "url": "https://a.example/", "description": "D"}]}}

    async def brave(asked: Asked, wire: Wire) -> None:
        await wire.json(found)

    back_end.script = brave
    use(stand, KEY, service="brave", base_url=back_end.url)
    _, result, _ = blocks(stand.post(side_call()))
    assert result["content"][0]["url"] == "https://a.example/"
    [asked] = back_end.asked
    assert asked.path.startswith("/web/search?q=llama+facts&") and asked.headers["x-subscription-token"] == KEY
    for refused in (answers(401), answers(422, b'{"error": {"code": "SUBSCRIPTION_TOKEN_INVALID"}}')):
        back_end.script = refused
        code, sentence = error(stand.post(side_call()))
        assert code == "unavailable" and "refused the key" in sentence and "web-search use brave" in sentence
        assert KEY not in sentence
    code, sentence = error(stand.post(side_call("x" * 401)))
    assert code == "query_too_long" and "400 characters" in sentence
    use(stand)
    assert KEY not in stand.log_path.read_text()


def test_tavily_gets_the_lists_in_its_own_words(stand: ProxyStand, back_end: Upstream) -> None:
    async def tavily(asked: Asked, wire: Wire) -> None:
        await wire.json({"results": [{"title": "T", "url": "https://b.a.example/", "content": "C"}]})

    back_end.script = tavily
    use(stand, KEY, service="tavily", base_url=back_end.url)
    _, result, _ = blocks(stand.post(side_call(allowed_domains=["a.example"])))
    assert result["content"][0]["url"] == "https://b.a.example/"
    [asked] = back_end.asked
    assert asked.path == "/search" and asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.json["query"] == QUERY and asked.json["include_domains"] == ["a.example"]
    back_end.script = answers(432)
    code, sentence = error(stand.post(side_call()))
    assert code == "too_many_requests" and "used up" in sentence
    use(stand)


def test_a_key_that_others_could_read_is_not_used(stand: ProxyStand, back_end: Upstream) -> None:
    use(stand, KEY, service="brave", base_url=back_end.url)
    (stand.root / "config" / "keys" / "web-search.brave").chmod(0o644)
    code, sentence = error(stand.post(side_call()))
    use(stand)
    assert code == "unavailable" and "can be read by other users" in sentence and back_end.asked == []


def program(tmp_path: Path, lines: str) -> list[str]:
    file = tmp_path / "search.py"
    file.write_text(f"import json, os, sys, time\n{lines}\n")
    return [sys.executable, str(file), "--"]


def test_a_command_gets_the_query_as_its_last_argument_and_no_key_of_ours(stand: ProxyStand, tmp_path: Path) -> None:
    argv = program(
        tmp_path,
        "hit = {'title': repr(sys.argv[1:]), 'url': 'https://c.example/', 'snippet': str(sorted(os.environ))}\n"
        "print(json.dumps([hit]))",
    )
    use(stand, service="command", command=argv)
    _, result, text = blocks(stand.post(side_call("Perform a web search for the query: -rf / $(id)")))
    use(stand)
    assert result["content"][0]["title"] == "['--', ' -rf / $(id)']"
    assert "PATH" in text["text"] and "LLMSTACK" not in text["text"]


@pytest.mark.parametrize(
    ("lines", "says", "cause"),
    [
        ("sys.exit(3)", "status 3", "command_failed"),
        ("print('no json')", "as its API does", "malformed"),
        ("print('[1]')", "as its API does", "malformed"),
        ("print('x' * 3_000_000)", "more than an answer", "too_large"),
    ],
)
def test_a_command_that_fails_is_named(stand: ProxyStand, tmp_path: Path, lines: str, says: str, cause: str) -> None:
    use(stand, service="command", command=program(tmp_path, lines))
    stand.forget_log()
    code, sentence = error(stand.post(side_call()))
    assert code == "unavailable" and says in sentence and result_of(stand) == cause
    use(stand, service="command", command=[str(tmp_path / "nowhere")])
    assert "cannot be started" in error(stand.post(side_call()))[1]
    use(stand)


def test_a_command_is_ended_with_what_it_started_when_nobody_waits(stand: ProxyStand, tmp_path: Path) -> None:
    marks = tmp_path / "pids"
    argv = program(
        tmp_path,
        f"import subprocess\nchild = subprocess.Popen(['sleep', '100'])\n"
        f"open({str(marks)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\ntime.sleep(100)",
    )
    use(stand, service="command", command=argv)
    connection = stand.raw(stand.head(side_call()))
    eventually(lambda: marks.exists() and len(marks.read_text().split()) == 2, within_s=10)
    connection.close()
    eventually(lambda: not any(_runs(pid) for pid in marks.read_text().split()), within_s=15)
    use(stand)


def _runs(pid: str) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_offline_keeps_a_search_on_this_machine(tmp_path: Path, upstream: Upstream, back_end: Upstream) -> None:
    with standing(tmp_path / "h", upstream.port, models="offline = true\n") as stand:
        use(stand, service="searxng", base_url=back_end.url)
        assert blocks(stand.post(side_call()))[1]["content"][0]["title"] == "Llamas hum"
        use(stand, service="searxng", base_url="http://searx.example.com")
        code, sentence = error(stand.post(side_call()))
    assert code == "unavailable" and "upstream offline off" in sentence


def test_two_equal_side_calls_at_once_are_one_search(search: ProxyStand, back_end: Upstream) -> None:
    async def slow(asked: Asked, wire: Wire) -> None:
        await asyncio.sleep(1)
        await searxng(asked, wire)

    back_end.script = slow
    first, second = search.raw(search.head(side_call())), search.raw(search.head(side_call()))
    for connection in (first, second):
        assert b"200 OK" in connection.recv(1000)
    eventually(lambda: sum("web_result" in line for line in search.requests()) >= 1, within_s=10)
    assert len(back_end.asked) == 1
    first.close()
    second.close()


def test_settings_that_cannot_be_read_keep_the_old_ones(search: ProxyStand, back_end: Upstream) -> None:
    search.forget_log()
    (search.root / "config" / "web.json").write_text("{nonsense")
    eventually(lambda: any(line["event"] == "web" for line in search.log), within_s=5)
    assert blocks(search.post(side_call()))[1]["content"][0]["title"] == "Llamas hum"


def test_a_responses_client_gets_the_text(search: ProxyStand) -> None:
    tool = {"type": "web_search", "filters": {"allowed_domains": ["example.com"]}}
    answer = search.post({"model": "m", "input": QUERY, "tools": [tool]}, "/v1/responses").json
    text = answer["output"][-1]["content"][0]["text"]
    assert "1. Llamas hum" in text and "Wool" not in text
