"""Each recorded stream becomes the same message, however the network cuts it."""

from __future__ import annotations

import httpx2  # what the official SDK is built on
import pytest
from anthropic import Anthropic, DefaultHttpxClient

from llmstack.protocol import chat, sse
from llmstack.protocol.anthropic import BlockDelta, InputJsonDelta, TextDelta
from llmstack.protocol.message import Assembler
from llmstack.protocol.replay import Replay
from support.stream_replay import blocks, check, check_legal, machine, message, replay, split
from support.streams import CASES, DONE, TOOLS, Case, finish, text, think, tool

every = pytest.mark.parametrize("case", CASES, ids=str)


def test_there_are_at_least_sixty_cases_with_names_of_their_own() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@every
def test_whole(case: Case) -> None:
    stream = machine(case)
    check(case, replay(case, [case.data], stream))
    assert stream.leaked == case.leaked
    assert stream.repaired == case.repaired


@every
def test_byte_by_byte(case: Case) -> None:
    check(case, replay(case, split(case.data, 1)))


@every
def test_delivered_event_by_event(case: Case) -> None:
    mark = next(end for end in (b"\r\n\r\n", b"\r\r", b"\n\n") if end in case.data or end == b"\n\n")
    check(case, replay(case, [piece + mark for piece in case.data.split(mark) if piece]))


@every
def test_cut_off_after_every_event_it_still_ends_once(case: Case) -> None:
    mark = next(end for end in (b"\r\n\r\n", b"\r\r", b"\n\n") if end in case.data or end == b"\n\n")
    pieces = case.data.split(mark)
    for count in range(len(pieces) + 1):
        check_legal(replay(case, [mark.join(pieces[:count]) + mark]))


@every
def test_the_official_sdk_accepts_it(case: Case) -> None:
    body = sse.encode_all(replay(case, [case.data]))
    transport = httpx2.MockTransport(
        lambda request: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    )
    with Anthropic(
        api_key="k", base_url="http://x", max_retries=0, http_client=DefaultHttpxClient(transport=transport)
    ) as client:
        try:
            with client.messages.stream(
                model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
            ) as stream:
                final = stream.get_final_message()
        except Exception as error:
            assert case.error is not None and case.error in str(error)
            return
    assert case.error is None
    # Of arguments that are cut the SDK keeps the members that are whole; the client is not to use them.
    assert blocks(final.to_dict()) == tuple(
        (*block[:2], {}) if "__unparsedToolInput" in block[-1] else block for block in case.blocks
    )
    assert final.stop_reason == case.stop


def test_arguments_are_streamed_as_they_come() -> None:
    case = Case("", tool(0, "a", "Read", '{"path":"', "/one", "/two", '"}') + finish("tool_calls") + DONE)
    events = replay(case, split(case.data, 50))
    pieces = [e.delta.partial_json for e in events if isinstance(e, BlockDelta) and isinstance(e.delta, InputJsonDelta)]
    assert pieces[1:3] == ["/one", "/two"]
    assert "".join(pieces) == '{"path":"/one/two"}'


def test_one_text_delta_in_is_one_text_delta_out() -> None:
    case = Case("", text(*"abcdef") + finish() + DONE)
    events = replay(case, [case.data])
    assert [e.delta.text for e in events if isinstance(e, BlockDelta) and isinstance(e.delta, TextDelta)] == list(
        "abcdef"
    )


def test_a_signature_comes_before_a_thinking_block_closes() -> None:
    case = Case("", think("t") + text("a") + finish() + DONE)
    kinds = [
        type(e.delta).__name__ if isinstance(e, BlockDelta) else type(e).__name__ for e in replay(case, [case.data])
    ]
    at = kinds.index("SignatureDelta")
    assert kinds[at + 1] == "BlockStop"


def test_the_keepalive_leaves_nothing_behind() -> None:
    case = Case("", text("a", "b") + finish() + DONE)
    stream = machine(case)
    events = stream.keepalive()
    events += stream.keepalive()
    for payload in sse.SSEDecoder().receive_data(case.data)[:-1]:
        events += stream.receive(chat.decode(payload))
        events += stream.keepalive()
    events += stream.end()
    check_legal(events)
    assert blocks(message(events)) == (("text", "ab"),)
    assert stream.keepalive() == []


def test_raw_arguments_are_remembered_before_they_are_put_right() -> None:
    raw = '{"timeout": "50", "command":"ls"}'
    case = Case("", tool(0, "up_stream_1", "Bash", raw) + finish("tool_calls") + DONE)
    kept = Replay()
    replay(case, [case.data], machine(case, kept))
    found = kept.get("toolu_1")
    assert found is not None and found.arguments == raw and found.upstream_id == "up_stream_1"


def test_endless_arguments_are_capped() -> None:
    """Fault 47."""
    case = Case("", b"", tools=TOOLS)
    stream = machine(case)
    stream.settings.max_arguments = 1000
    data = tool(0, "a", "Read", '{"path":"', *["x" * 100] * 50)
    events = replay(case, [data], stream)
    check_legal(events)
    whole = Assembler()
    whole.receive(events)
    assert whole.error is not None and "1000 bytes of arguments" in whole.error.error.message
