"""Feeds recorded bytes through the decoder and the machine, and checks what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from llmstack.protocol import chat, sse
from llmstack.protocol.anthropic import (
    BlockDelta,
    BlockStart,
    BlockStop,
    ErrorEvent,
    Event,
    MessageDelta,
    MessageStart,
    MessageStop,
)
from llmstack.protocol.errors import Cause, Failure, FailureKind
from llmstack.protocol.message import Assembler
from llmstack.protocol.replay import Replay
from llmstack.protocol.stream import MessageStream
from llmstack.protocol.stream_settings import StreamSettings
from llmstack.protocol.stream_states import StreamState
from support.streams import Case


def machine(case: Case, replay: Replay | None = None) -> MessageStream:
    numbers = iter(range(1, 10_000))
    return MessageStream(
        StreamSettings(
            model="m",
            message_id="msg_1",
            new_tool_id=lambda upstream: f"toolu_{next(numbers)}",
            tools=case.tools,
            stop_sequences=case.stops,
            thinking=case.thinking,
            remember=replay.remember if replay is not None else None,
        )
    )


def replay(case: Case, pieces: Iterable[bytes], stream: MessageStream | None = None) -> list[Event]:
    """All events a client would see, as the proxy's attempt drives the machine."""
    stream = stream if stream is not None else machine(case)
    decoder = sse.SSEDecoder()
    out: list[Event] = []

    def feed(payloads: list[bytes]) -> None:
        for payload in payloads:
            if payload == b"[DONE]":
                out.extend(stream.end())
                return
            try:
                chunk = chat.decode(payload)
            except msgspec.DecodeError:
                out.extend(stream.fail(Failure(FailureKind.API, "an event that is no chat chunk", Cause.MALFORMED)))
                return
            out.extend(stream.receive(chunk))

    for piece in pieces:
        feed(decoder.receive_data(piece))
    feed(decoder.end())
    out.extend(stream.end())
    return out


def split(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def check_legal(events: list[Event]) -> None:
    """The order a client may rely on: one start, one block at a time, indexes in sequence, exactly one end."""
    assert events, "no event at all"
    ends = [e for e in events if isinstance(e, (MessageStop, ErrorEvent))]
    assert len(ends) == 1 and events[-1] is ends[0]
    started, open_index, last_index, stopped = False, None, -1, False
    for event in events:
        if isinstance(event, MessageStart):
            assert not started
            started = True
        elif isinstance(event, BlockStart):
            assert started and open_index is None and event.index == last_index + 1
            open_index = last_index = event.index
        elif isinstance(event, BlockDelta):
            assert event.index == open_index
        elif isinstance(event, BlockStop):
            assert event.index == open_index
            open_index = None
        elif isinstance(event, MessageDelta):
            assert started
            if event.delta.stop_reason is not None:
                assert open_index is None and not stopped
                stopped = True
        elif isinstance(event, MessageStop):
            assert stopped and last_index >= 0


def message(events: list[Event]) -> dict[str, Any]:
    whole = Assembler()
    whole.receive(events)
    value: dict[str, Any] = msgspec.json.decode(whole.body())
    return value


def blocks(value: dict[str, Any]) -> tuple[Any, ...]:
    found: list[Any] = []
    for block in value["content"]:
        if block["type"] == "text":
            found.append(("text", block["text"]))
        elif block["type"] == "thinking":
            assert block["signature"]
            found.append(("thinking", block["thinking"]))
        else:
            found.append(("tool", block["name"], block["input"]))
    return tuple(found)


def check(case: Case, events: list[Event]) -> None:
    """The events are legal and the message is the one the case names."""
    check_legal(events)
    if case.error is not None:
        last = events[-1]
        assert isinstance(last, ErrorEvent) and case.error in last.error.message
        return
    value = message(events)
    assert blocks(value) == case.blocks
    assert value["stop_reason"] == case.stop
    assert value["stop_sequence"] == case.sequence
    if case.usage is not None:
        figures = value["usage"]
        assert (figures["input_tokens"], figures["cache_read_input_tokens"], figures["output_tokens"]) == case.usage
    ids = [block["id"] for block in value["content"] if block["type"] == "tool_use"]
    assert len(set(ids)) == len(ids)


__all__ = ["StreamState", "blocks", "check", "check_legal", "machine", "message", "replay", "split"]
