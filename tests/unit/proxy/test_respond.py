"""How an answer leaves: what every one carries, and what an error looks like to whom."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from llmstack.protocol.errors import Cause, Failure, FailureKind, unavailable
from llmstack.proxy.report import RequestRecord
from llmstack.proxy.respond import JSON, refuse, respond, respond_json, start


class Sent:
    def __init__(self, path: str = "/v1/messages", method: str = "POST") -> None:
        self.record = RequestRecord(id="req_1", method=method, path=path)
        self.scope: dict[str, Any] = {"record": self.record, "path": path, "method": method}
        self.messages: list[MutableMapping[str, Any]] = []

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)

    @property
    def headers(self) -> dict[bytes, bytes]:
        pairs: list[tuple[bytes, bytes]] = self.messages[0]["headers"]
        assert len({name for name, _ in pairs}) == len(pairs), "no header twice"
        return dict(pairs)

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])


async def test_a_value_goes_out_as_json_with_its_length_and_the_requests_id() -> None:
    sent = Sent()
    await respond_json(sent.scope, sent.send, {"a": 1})
    assert sent.body == b'{"a":1}' and sent.messages[0]["status"] == sent.record.status == 200
    assert sent.headers == {b"content-type": b"application/json", b"content-length": b"7", b"request-id": b"req_1"}


async def test_head_gets_the_headers_of_get_and_no_body() -> None:
    sent = Sent("/", "HEAD")
    await respond(sent.scope, sent.send, 200, b"12345", [JSON])
    assert sent.headers[b"content-length"] == b"5" and sent.body == b""


async def test_upstream_and_fallback_are_named_and_an_upstreams_own_id_stays() -> None:
    sent = Sent()
    sent.record.upstream, sent.record.fallback = "clöud", "local->clöud: loading"
    await start(sent.scope, sent.send, 207, [(b"request-id", b"req_cloud")])
    assert sent.headers == {
        b"request-id": b"req_cloud",
        b"x-llmstack-upstream": "clöud".encode("latin-1"),
        b"x-llmstack-fallback": "local->clöud: loading".encode("latin-1"),
    }
    assert sent.record.status == 207


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/messages", {"type": "error", "error": {"type": "api_error", "message": "no"}, "request_id": "req_1"}),
        ("/v1/chat/completions", {"error": {"message": "no", "type": "api_error", "param": None, "code": None}}),
    ],
)
async def test_a_refusal_has_the_shape_the_paths_clients_know(path: str, shape: dict[str, Any]) -> None:
    sent = Sent(path)
    await refuse(sent.scope, sent.send, Failure(FailureKind.API, "no", Cause.MALFORMED))
    assert json.loads(sent.body) == shape
    assert (sent.record.status, sent.record.cause) == (500, "malformed")


async def test_a_refusal_says_when_to_ask_again_or_that_it_is_of_no_use() -> None:
    sent = Sent()
    await refuse(sent.scope, sent.send, unavailable("later", Cause.LOADING, 5))
    assert sent.messages[0]["status"] == 529 and sent.headers[b"retry-after"] == b"5"
    sent = Sent()
    await refuse(sent.scope, sent.send, Failure(FailureKind.AUTHENTICATION, "who?"))
    assert sent.messages[0]["status"] == 401 and sent.headers[b"x-should-retry"] == b"false"
