"""What the relay does by itself, without an upstream."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmstack.protocol.passed_stream import PassedStream
from llmstack.proxy.gate import ClientGone
from llmstack.proxy.relay import Relay
from llmstack.proxy.report import RequestRecord


class Transport:
    aborted = False

    def abort(self) -> None:
        self.aborted = True


async def test_a_client_that_takes_nothing_of_a_passed_on_answer_is_cut() -> None:
    """Fault 42, of what is not translated: the upstream is let go."""
    nothing: Any = None
    relay = Relay(nothing, nothing, nothing, lambda *_: None, nothing, slow_reader_s=0.01)
    record, transport = RequestRecord("req_1", "POST", "/v1/chat/completions"), Transport()

    async def never(message: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(ClientGone):
        await relay._watched({"record": record, "transport": transport}, never)({"type": "http.response.body"})
    assert transport.aborted and record.cause == "slow_reader"


def test_nothing_follows_an_error_of_a_passed_on_completion() -> None:
    passed = PassedStream(anthropic=False)
    out = passed.receive(b'data: {"choices":[]}\n\ndata: {"error":{"message":"no"}}\n\ndata: [DONE]\n\n')
    assert out.endswith(b'{"error":{"message":"no"}}\n\n') and passed.complete
    assert passed.receive(b"data: more\n\n") == b""
    assert not PassedStream(anthropic=False).receive(b'data: {"choices":[],"error":null}\n\n').count(b"DONE")
