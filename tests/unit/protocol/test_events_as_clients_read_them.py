"""Events read back from the wire, as bench and the check of an upstream read them."""

from __future__ import annotations

import msgspec
import pytest

from llmstack.protocol import sse
from llmstack.protocol.anthropic import MessageStop, decode_event
from llmstack.protocol.message import Assembler
from support.stream_replay import message, replay
from support.streams import CASES, Case


@pytest.mark.parametrize("case", [case for case in CASES if case.error is None], ids=lambda case: case.name)
def test_what_was_encoded_is_the_same_message_when_it_is_read(case: Case) -> None:
    events = replay(case, [case.data])
    decoder = sse.SSEDecoder()
    read = [decode_event(payload) for payload in decoder.receive_data(sse.encode_all(events))]
    whole = Assembler()
    whole.receive([event for event in read if event is not None])
    assert isinstance(read[-1], MessageStop)
    assert msgspec.json.decode(whole.body()) == message(events)


@pytest.mark.parametrize(
    "payload", [b'{"type":"ping"}', b'{"type":"newer"}', b"[DONE]", b"\xff", b'{"type":"content_block_delta"}']
)
def test_what_no_client_here_needs_is_left_out(payload: bytes) -> None:
    assert decode_event(payload) is None
