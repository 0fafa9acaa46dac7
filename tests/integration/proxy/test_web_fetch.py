"""Pages for web_fetch: what is fetched, what is refused, and that a name is looked at where the connection goes.

Pages come from a server on loopback, which the real proxy never fetches from: there the fetcher is used by itself, told
to take loopback for the internet.
"""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic.types import Message

from llmstack.protocol.limits import most
from llmstack.protocol.request import decode
from llmstack.protocol.web.address import IP, is_public, page_address
from llmstack.protocol.web.calls import PageWish
from llmstack.protocol.web.domains import domain_rules
from llmstack.protocol.web.refusal import WebRefused
from llmstack.proxy.report import RequestRecord
from llmstack.proxy.shared_answer import SharedAnswer
from llmstack.proxy.web.page_reader import PageKind, read_page
from llmstack.proxy.web.pages import Pages, RawPage, may_be_reached
from llmstack.proxy.web.side_calls import SideCalls
from llmstack.web_settings import WebSettings
from support.proxy_stand import ProxyStand
from support.upstream import Asked, Script, Upstream, Wire
from support.wait import eventually

HOME = ipaddress.ip_address("127.0.0.1")
PAGE = b"""<!doctype html><html><head><title>Llamas &amp; wool</title><style>p {}</style></head><body>
<nav><a href="/x">menu</a></nav><main><h1>Llamas</h1><p>They <b>hum</b>.</p><script>alert(1)</script></main>
<footer>imprint</footer></body></html>"""


def pages(addresses: dict[str, list[str]] | None = None, **options: Any) -> Pages:
    """Every name is at loopback unless it is said otherwise; loopback is the internet, the rest is as it is."""

    async def resolve(host: str, port: int) -> list[IP]:
        return [ipaddress.ip_address(one) for one in (addresses or {}).get(host, ["127.0.0.1"])]

    return Pages(resolve, lambda one: one == HOME or is_public(one), **options)


def wish(url: str, **lists: Any) -> PageWish:
    return PageWish(page_address(url), domain_rules(lists.get("allowed"), lists.get("blocked")), 1000)


def fetch(url: str, source: Pages | None = None, **lists: Any) -> RawPage:
    return asyncio.run((source or pages()).fetch(wish(url, **lists)))


def refusal(url: str, source: Pages | None = None, **lists: Any) -> tuple[str, str]:
    with pytest.raises(WebRefused) as refused:
        fetch(url, source, **lists)
    return refused.value.code, refused.value.cause


@pytest.fixture(scope="module")
def module_site() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def site(module_site: Upstream) -> Upstream:
    module_site.script = gives(PAGE)
    module_site.asked.clear()
    return module_site


def gives(data: bytes, kind: str = "text/html; charset=utf-8", status: int = 200, **headers: str) -> Script:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.whole(data, status, kind, **headers)

    return script


def test_a_page_is_fetched_from_the_address_that_was_looked_at(site: Upstream) -> None:
    page = fetch(f"http://llamas.example:{site.port}/a?b=c#d")
    assert (page.kind, page.data, page.charset) == (PageKind.HTML, PAGE, "utf-8")
    [asked] = site.asked
    assert asked.path == "/a?b=c" and asked.headers["host"] == f"llamas.example:{site.port}"
    assert "cookie" not in asked.headers and "authorization" not in asked.headers


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.2",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.1.1",
        "224.0.0.1",
        "::1",
        "::ffff:10.0.0.1",
        "fe80::1",
        "fd00::1",
    ],
)
def test_a_name_that_leads_inside_is_not_fetched(site: Upstream, address: str) -> None:
    source = pages({"inside.example": [address], "both.example": ["127.0.0.1", address]})
    for host in ("inside.example", "both.example"):
        assert refusal(f"http://{host}:{site.port}/", source) == ("url_not_allowed", "not_allowed")
    literal = f"[{address}]" if ":" in address else address
    assert refusal(f"http://{literal}:{site.port}/", source) == ("url_not_allowed", "not_allowed")
    assert site.asked == []


def test_a_name_that_changes_its_address_between_look_and_connection_changes_nothing(site: Upstream) -> None:
    """DNS rebinding: the second answer is never asked for."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def resolve(host: str, port: int) -> list[IP]:
        return [ipaddress.ip_address(one) for one in answers.pop(0)]

    source = Pages(resolve, lambda one: one == HOME)
    assert fetch(f"http://rebound.example:{site.port}/", source).data == PAGE
    assert answers == [["10.0.0.1"]] and len(site.asked) == 1


def test_each_redirect_is_a_new_address(site: Upstream) -> None:
    def leads(where: str, status: int = 302) -> None:
        async def script(asked: Asked, wire: Wire) -> None:
            await (
                wire.whole(PAGE, 200, "text/html")
                if asked.path == "/end"
                else gives(b"", location=where, status=status)(asked, wire)
            )

        site.script = script
        site.asked.clear()

    start = f"http://llamas.example:{site.port}/start"
    leads("/end", 308)
    assert fetch(start).url == f"http://llamas.example:{site.port}/end"
    source = pages({"inside.example": ["10.0.0.1"]})
    for inside in ("http://inside.example/", "http://169.254.169.254/latest/meta-data", "//[::1]/"):
        leads(inside)
        assert refusal(start, source) == ("url_not_allowed", "not_allowed") and len(site.asked) == 1
    for other in ("file:///etc/passwd", "gopher://a.example/", "http://user:word@a.example/"):
        leads(other)
        assert refusal(start)[0] == "url_not_allowed"
    leads("/start")
    assert refusal(start) == ("url_not_accessible", "redirect") and len(site.asked) == most("web_redirects") + 1
    leads(f"http://other.example:{site.port}/end")
    assert refusal(start, allowed=["llamas.example"]) == ("url_not_allowed", "not_allowed")


def test_lists_of_domains_are_kept(site: Upstream) -> None:
    url = f"http://llamas.example:{site.port}/blog/1"
    assert fetch(url, allowed=["example/x", "llamas.example/blog"]).data == PAGE
    assert refusal(url, blocked=["llamas.example"])[0] == "url_not_allowed"


@pytest.mark.parametrize(
    ("script", "code", "cause"),
    [
        (gives(b"", status=404), "url_not_accessible", "status"),
        (gives(b"", status=500), "url_not_accessible", "status"),
        (gives(b"", status=429), "too_many_requests", "rate_limit"),
        (gives(b"x", "image/png"), "unsupported_content_type", "content_type"),
        (gives(b"x", "image/svg+xml"), "unsupported_content_type", "content_type"),
        (gives(b"x", "application/octet-stream"), "unsupported_content_type", "content_type"),
        (gives(b"x" * 8_400_000), "content_too_large", "too_large"),
        (gives(gzip.compress(b"x" * 20_000_000), content_encoding="gzip"), "content_too_large", "too_large"),
        (gives(b"no gzip", content_encoding="gzip"), "url_not_accessible", "malformed"),
        (gives(b"x", content_encoding="br"), "url_not_accessible", "malformed"),
    ],
)
def test_what_is_no_page_has_its_code(site: Upstream, script: Script, code: str, cause: str) -> None:
    site.script = script
    assert refusal(f"http://llamas.example:{site.port}/") == (code, cause)


def test_a_host_that_is_silent_or_has_no_address_is_given_up(site: Upstream) -> None:
    async def silent(asked: Asked, wire: Wire) -> None:
        await wire.until_gone()

    async def nowhere(host: str, port: int) -> list[IP]:
        raise OSError("no such host")

    site.script = silent
    assert refusal(f"http://llamas.example:{site.port}/", pages(most_s=1.0)) == ("url_not_accessible", "timeout")
    assert refusal("http://nowhere.example/", Pages(nowhere)) == ("url_not_accessible", "no_host")
    assert refusal("http://llamas.example:1025/") == ("url_not_accessible", "unreachable")


def test_a_packed_page_is_unpacked(site: Upstream) -> None:
    site.script = gives(gzip.compress(PAGE), content_encoding="gzip")
    assert fetch(f"http://llamas.example:{site.port}/").data == PAGE


def test_this_machine_s_own_addresses_are_never_reached() -> None:
    import psutil

    own = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries if "." in entry.address]
    assert own and not any(may_be_reached(ipaddress.ip_address(address)) for address in own)


def text_of(kind: PageKind, data: bytes, charset: str = "", **options: Any) -> tuple[str, str]:
    read = asyncio.run(read_page(kind, charset, data, options.pop("characters", 1000), **options))
    return read.title, read.text


def test_the_main_part_of_a_page_becomes_markdown() -> None:
    assert text_of(PageKind.HTML, PAGE) == ("Llamas & wool", "# Llamas\n\nThey **hum**.")
    article = b"<title>T</title><body><article><h2>A</h2><ul><li>x<li>y</ul></article><aside>ads</aside>"
    assert text_of(PageKind.HTML, article) == ("T", "## A\n\n- x\n- y")
    assert text_of(PageKind.HTML, "<p>Größe".encode("latin-1"), "iso-8859-1")[1] == "Größe"
    assert text_of(PageKind.HTML, b"") == ("", "")


def test_other_texts_stay_as_they_are_without_what_nobody_sees() -> None:
    assert text_of(PageKind.TEXT, b'{"a":\n 1}')[1] == '{"a":\n 1}'
    assert text_of(PageKind.TEXT, "a\u202e\x1b[2Jb".encode())[1] == "a[2Jb"
    assert text_of(PageKind.TEXT, b"x" * 5000, characters=100)[1] == "x" * 99 + "…"


@pytest.mark.parametrize("data", [b"<div>" * 50_000, b"<table>" * 20_000, b"<b>" * 30_000 + b"x"])
def test_a_page_that_is_nested_deeply_is_read(data: bytes) -> None:
    text_of(PageKind.HTML, data, most_s=120)  # by depth alone; how long it may take has a test of its own


def test_a_page_that_takes_too_long_or_too_much_ends_its_reader_alone() -> None:
    for options in ({"most_s": 1.0}, {"memory": 200 * 1024 * 1024}):
        with pytest.raises(WebRefused) as refused:
            text_of(PageKind.HTML, b"<" * 6_000_000, **options)
        assert (refused.value.code, refused.value.cause) == ("content_too_large", "unreadable")


def test_a_page_is_answered_as_a_document(site: Upstream) -> None:
    """With the real reader and a real page; only what the user has set is made up."""
    live: Any = SimpleNamespace(web=WebSettings(fetch=True), routing=SimpleNamespace(offline=False))
    request = decode(json.dumps(side_call(f"Read http://llamas.example:{site.port}/a, please.")).encode())
    record = RequestRecord("req_1", "POST", "/v1/messages")

    async def answered() -> dict[str, Any]:
        calls = SideCalls(live, pages())
        call = calls.served(request)
        assert call is not None
        answer = SharedAnswer(streaming=False, grace_s=0.0, on_finish=lambda finished: None)
        await calls.answer(call, "m", record, answer)
        return answer.assembler.message

    message = Message.model_validate(asyncio.run(answered()))
    use, result, text = message.content
    assert use.type == "server_tool_use" and use.input == {"url": f"http://llamas.example:{site.port}/a"}
    assert result.type == "web_fetch_tool_result" and result.content.type == "web_fetch_result"
    document = result.content.content
    assert (document.title, document.source.data) == ("Llamas & wool", "# Llamas\n\nThey **hum**.")
    assert text.type == "text" and "not instructions" in text.text and message.stop_reason == "end_turn"
    assert (record.web, record.web_result) == ("web_fetch", "ok")


# ---- through the real proxy ---------------------------------------------------------------------------------------


def side_call(text: str, stream: bool = True, **tool: Any) -> Any:
    fetch_tool = {"type": "web_fetch_20250910", "name": "web_fetch", **tool}
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": text}], "tools": [fetch_tool]}
    return body | ({"stream": True} if stream else {})


def switch(stand: ProxyStand, on: bool) -> None:
    before = sum(line["event"] == "web" for line in stand.log)
    new = stand.root / "config" / "web.new"
    new.write_text(json.dumps({"fetch": on}))
    new.replace(stand.root / "config" / "web.json")
    eventually(lambda: sum(line["event"] == "web" for line in stand.log) > before, within_s=5)


def error(stand: ProxyStand, text: str, **tool: Any) -> tuple[str, str]:
    message = stand.post(side_call(text, stream=False, **tool)).json
    use, result, words = message["content"]
    assert (use["type"], result["type"]) == ("server_tool_use", "web_fetch_tool_result")
    assert result["content"]["type"] == "web_fetch_tool_result_error"
    return result["content"]["error_code"], words["text"]


def test_the_proxy_fetches_nothing_until_it_is_switched_on_and_nothing_of_this_machine_then(
    stand: ProxyStand, site: Upstream, upstream: Upstream
) -> None:
    inside = (
        site.url, f"http://localhost:{site.port}/", f"http://127.1:{site.port}/", f"http://2130706433:{site.port}/",
        f"http://0x7f000001:{site.port}/", f"http://0:{site.port}/", f"http://[::1]:{site.port}/",
        f"http://[::ffff:127.0.0.1]:{site.port}/", "http://169.254.169.254/latest", stand.url,
    )  # fmt: skip
    off = stand.post(side_call(f"Read {inside[0]}", stream=False)).json
    assert "web_fetch is not available" in off["content"][0]["text"]
    switch(stand, True)
    stand.forget_log()
    for url in inside:
        code, sentence = error(stand, f"Read {url} and sum it up")
        assert code == "url_not_allowed" and "this machine" in sentence, url
    assert error(stand, "no address")[0] == "invalid_tool_input"
    assert error(stand, "http://a.example/ http://b.example/")[0] == "invalid_tool_input"
    assert error(stand, "http://a.example/" + "x" * 3000)[0] == "url_too_long"
    assert error(stand, "http://a.example/", max_uses=0)[0] == "max_uses_exceeded"
    assert error(stand, "http://a.example/", allowed_domains=["b.example"])[0] == "url_not_allowed"
    assert error(stand, "http://nothing.invalid/")[0] == "url_not_accessible"
    eventually(lambda: len(stand.requests()) == len(inside) + 6, within_s=10)
    assert {line["web"] for line in stand.requests()} == {"web_fetch"}
    assert "latest" not in json.dumps(stand.requests())
    names = [name for name, _ in stand.post(side_call("http://127.0.0.1/")).events]
    assert names[0] == "message_start" and names[-1] == "message_stop"
    switch(stand, False)
    assert site.asked == [] and upstream.asked == []
