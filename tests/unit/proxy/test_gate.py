"""Who is admitted: by Host, Origin and token, and how large a body may be."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest

from llmstack.access.book import KeyBook
from llmstack.paths import Home
from llmstack.protocol.errors import Cause, FailureKind, Refused
from llmstack.proxy.gate import Gate, Policy, read_body
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.report import Reporter
from llmstack.proxy.respond import App, Receive, Scope, Send

HOST = (b"host", b"127.0.0.1:5000")
KEY = (b"x-api-key", b"secret")


class FakeLive:
    token = b"secret"
    keys = KeyBook()
    home = Home(*(Path("/nowhere") / name for name in ("config", "state", "data", "cache")))
    refreshed = 0

    def refresh(self) -> None:
        self.refreshed += 1


async def no_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("nobody should come this far")


def gate(app: App = no_app, **policy: Any) -> Gate:
    live = cast(LiveConfig, FakeLive())
    return Gate(app, live, Policy(port=5000, **policy), Reporter(StringIO()))


def scope(*headers: tuple[bytes, bytes], path: str = "/v1/messages", method: str = "POST") -> dict[str, Any]:
    return {"type": "http", "http_version": "1.1", "method": method, "path": path, "headers": list(headers)}


def admitted(*headers: tuple[bytes, bytes], path: str = "/v1/messages", **policy: Any) -> FailureKind | None:
    failure = gate(**policy).admit(scope(*headers, path=path), path)
    return failure.kind if failure is not None else None


@pytest.mark.parametrize("host", [b"localhost", b"LocalHost:5000", b"127.0.0.1", b"127.8.9.1:1", b"[::1]:5000"])
def test_names_of_this_machine_are_hosts(host: bytes) -> None:
    assert admitted((b"host", host), KEY) is None


@pytest.mark.parametrize("host", [b"evil.example", b"localhost.evil.example", b"10.0.0.1", b"[fe80::1]"])
def test_other_hosts_are_refused_because_a_web_page_can_rebind_them(host: bytes) -> None:
    assert admitted((b"host", host), KEY) is FailureKind.PERMISSION


def test_a_host_is_needed_and_one_only() -> None:
    assert admitted(KEY) is FailureKind.INVALID
    assert admitted(HOST, HOST, KEY) is FailureKind.INVALID
    assert admitted((b"host", b"a b"), KEY) is FailureKind.INVALID


def test_a_proxy_for_others_takes_their_addresses_and_the_names_it_was_given() -> None:
    assert admitted((b"host", b"10.0.0.1"), KEY, loopback=False) is None
    assert admitted((b"host", b"box"), KEY, hosts=frozenset({"box"})) is None
    assert admitted((b"host", b"box2"), KEY, loopback=False) is FailureKind.PERMISSION


def test_a_web_page_of_another_origin_is_refused() -> None:
    assert admitted(HOST, KEY, (b"origin", b"https://evil.example")) is FailureKind.PERMISSION
    assert admitted(HOST, KEY, (b"origin", b"http://127.0.0.1:5000")) is None


@pytest.mark.parametrize("key", [KEY, (b"authorization", b"Bearer secret"), (b"authorization", b"bearer  secret ")])
def test_the_token_may_come_in_either_header(key: tuple[bytes, bytes]) -> None:
    assert admitted(HOST, key) is None


def test_a_wrong_token_or_none_is_refused_and_one_right_one_is_enough() -> None:
    assert admitted(HOST) is FailureKind.AUTHENTICATION
    assert admitted(HOST, (b"x-api-key", b"secre")) is FailureKind.AUTHENTICATION
    assert admitted(HOST, (b"authorization", b"Basic secret")) is FailureKind.AUTHENTICATION
    assert admitted(HOST, (b"x-api-key", b"wrong"), (b"authorization", b"Bearer secret")) is None


def test_health_is_for_all_and_metrics_for_this_machine() -> None:
    assert admitted(HOST, path="/health") is None
    assert admitted(HOST, path="/metrics") is None
    assert admitted(HOST, path="/metrics", loopback=False) is FailureKind.AUTHENTICATION


def test_a_proxy_that_stops_takes_nothing_new_but_says_how_it_is() -> None:
    stopping = gate()
    stopping.draining = True
    failure = stopping.admit(scope(HOST, KEY), "/v1/messages")
    assert failure is not None and failure.cause is Cause.STOPPING and failure.retry_after_s
    assert stopping.admit(scope(HOST, path="/health"), "/health") is None


async def test_every_request_gets_a_record_and_one_that_is_refused_a_line_in_the_log() -> None:
    out = StringIO()
    outer = Gate(no_app, cast(LiveConfig, FakeLive()), Policy(port=5000), Reporter(out))
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    request = scope(HOST)
    await outer(request, cast(Receive, None), send)
    assert sent[0]["status"] == request["record"].status == 401
    assert '"status":401' in out.getvalue() and "secret" not in out.getvalue()


def pieces(*bodies: bytes) -> Receive:
    waiting = list(bodies)

    async def receive() -> MutableMapping[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": body != b""}

    return receive


async def test_a_body_comes_in_pieces_and_never_larger_than_the_limit() -> None:
    policy = Policy(port=0, max_body=6, body_timeout_s=0.01)
    assert await read_body(scope(), pieces(b"abc", b"def", b""), policy) == b"abcdef"
    for headers, receive in (((), pieces(b"abcdefg", b"")), (((b"content-length", b"7"),), pieces())):
        with pytest.raises(Refused) as refused:
            await read_body(scope(*headers), receive, policy)
        assert refused.value.failure.kind is FailureKind.TOO_LARGE
    with pytest.raises(Refused) as refused:
        await read_body(scope(), pieces(b"abc"), policy)
    assert refused.value.failure.http_status == 408
