"""The states of a message stream: a move outside the table is an error that names the signal and the state."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llmstack.protocol import chat
from llmstack.protocol.anthropic import (
    BlockDelta,
    BlockStart,
    BlockStop,
    InputJsonDelta,
    MessageDelta,
    MessageStop,
    ToolUseBlock,
)
from llmstack.protocol.calls import Pieces
from llmstack.protocol.errors import ProtocolFault
from llmstack.protocol.stream import MessageStream
from llmstack.protocol.stream_settings import StreamSettings
from llmstack.protocol.stream_states import TABLE, StreamSignal, StreamState


def stream(**more: Any) -> MessageStream:
    settings = StreamSettings(model="m", message_id="msg_1", new_tool_id=lambda upstream_id: upstream_id, **more)
    return MessageStream(settings)


@pytest.mark.parametrize("state", StreamState)
@pytest.mark.parametrize("signal", StreamSignal)
def test_a_move_is_in_the_table_or_a_fault(state: StreamState, signal: StreamSignal) -> None:
    machine = stream()
    machine.state = state
    if (state, signal) in TABLE:
        machine._move(signal)
        assert machine.state is TABLE[state, signal]
    else:
        with pytest.raises(ProtocolFault, match=f"MessageStream: {signal.name} in state {state.name}"):
            machine._move(signal)
        assert machine.state is state


def test_an_answer_without_a_block_gets_an_empty_one_by_a_move_of_its_own() -> None:
    machine = stream()
    machine.receive(chat.decode(b'{"choices":[{"delta":{},"finish_reason":"stop"}]}'))
    assert machine.state is StreamState.FINISHING
    kinds = [type(event) for event in machine.end()]
    assert kinds == [BlockStart, BlockStop, MessageDelta, MessageStop] and machine.state is StreamState.DONE


def piece(text: str) -> chat.ToolCallDelta:
    chunk = chat.decode(b'{"choices":[{"delta":{"tool_calls":[' + text.encode() + b"]}}]}")
    assert chunk.choices and chunk.choices[0].delta and chunk.choices[0].delta.tool_calls
    return chunk.choices[0].delta.tool_calls[0]


def test_calls_leave_the_line_in_their_order_once_their_name_is_whole() -> None:
    pieces = Pieces()
    first = pieces.begin(piece('{"index":0,"id":"a"}'), None)
    second = pieces.begin(piece('{"index":1,"id":"b"}'), None)
    assert first is not None and second is not None and pieces
    first.name, second.name = "read", "write"
    assert pieces.next_ready({"read_file": {}}) is None, "more of the name may come"
    first.add("{")
    assert pieces.next_ready({}) is first and pieces.next_ready({"write": {}}) is second and not pieces


def test_the_tail_of_a_closed_call_begins_no_other() -> None:
    pieces = Pieces()
    call = pieces.begin(piece('{"index":0,"id":"a"}'), None)
    assert call is not None and pieces.drain() == [call]
    pieces.close(call)
    assert pieces.begin(piece('{"index":0,"function":{"arguments":"}"}}'), None) is None


@pytest.mark.parametrize(
    "texts",
    [['{"p": "a"}'], ["{", '"p"', ': "', "a", '"', "}"], ['{\n  "p": "a"\n}', "\n", " "]],
    ids=["one", "many", "tail"],
)
def test_the_text_of_a_forced_answer_is_one_call(texts: list[str]) -> None:
    machine = stream(forced="Read", tools={"Read": {"type": "object", "properties": {"p": {"type": "string"}}}})
    events = []
    for text in texts:
        events += machine.receive(chat.decode(msgspec.json.encode({"choices": [{"delta": {"content": text}}]})))
    events += machine.receive(chat.decode(b'{"choices":[{"delta":{},"finish_reason":"stop"}]}')) + machine.end()
    [block] = [event.content_block for event in events if isinstance(event, BlockStart)]
    assert isinstance(block, ToolUseBlock) and block.name == "Read"
    deltas = [event.delta for event in events if isinstance(event, BlockDelta)]
    written = "".join(delta.partial_json for delta in deltas if isinstance(delta, InputJsonDelta))
    assert msgspec.json.decode(written) == {"p": "a"}
    assert machine.stop_reason == "tool_use"
