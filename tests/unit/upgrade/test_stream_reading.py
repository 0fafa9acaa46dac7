"""The form of a stream, as an upgrade reads it."""

from __future__ import annotations

from typing import Any

import pytest

from llmstack.upgrade.messages import Reply, _Reading

START = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 7}}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
STOP = {"type": "message_stop"}


def block(index: int, kind: str, *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    opened = {"type": "content_block_start", "index": index, "content_block": {"type": kind, "name": "Bash"}}
    told = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [opened, *told, {"type": "content_block_stop", "index": index}]


def text(words: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": words}


def part(words: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": words}


def read(*events: dict[str, Any], max_tokens: int = 100) -> Reply:
    reading = _Reading(max_tokens)
    for event in events:
        reading.event(event)
    return reading.reply()


def test_a_whole_stream_has_its_blocks_its_tokens_and_no_fault() -> None:
    reply = read(
        START, *block(0, "text", text("Hel"), text("lo")), *block(1, "tool_use", part('{"a"'), part(":1}")), END, STOP
    )
    assert reply.ok and reply.faults == ()
    assert reply.text == "Hello" and reply.calls[0]["input"] == {"a": 1}
    assert (reply.prompt, reply.cached) == (12, 7)


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([START, *block(0, "text", text("a")), END], "the stream has no end"),
        ([START, *block(0, "text", text("a"))[:2], *block(1, "text", text("b")), END, STOP], "opened inside another"),
        ([START, *block(0, "text", part("{}")), END, STOP], "input_json_delta outside its block"),
        ([START, *block(0, "tool_use", part("{")), END, STOP], "no JSON"),
        ([START, *block(0, "text", text("a")), END, STOP, END], "behind the end"),
    ],
)
def test_what_breaks_the_order_of_events_is_a_fault(events: list[dict[str, Any]], fault: str) -> None:
    assert any(fault in one for one in read(*events).faults)


def test_arguments_that_the_limit_of_tokens_cut_off_are_no_fault() -> None:
    reply = read(START, *block(0, "tool_use", part("{")), END, STOP, max_tokens=3)
    assert reply.is_cut and reply.faults == ()


def test_an_error_in_the_stream_is_told_in_its_own_words() -> None:
    reply = read(START, {"type": "error", "error": {"type": "api_error", "message": "the model died"}})
    assert not reply.ok and reply.why == "the model died"
