"""Tokens of an answer that is passed through: as each kind of upstream reports them, else by size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmstack.protocol.anthropic import Usage
from llmstack.protocol.metering import MOST_GATHERED, Meter, Tokens, tokens_of
from llmstack.protocol.passed_stream import PassedStream

OPENAI = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 90}}
ANTHROPIC = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 7}


@pytest.mark.parametrize(
    "whole",
    [
        {"usage": OPENAI}, {"usage": ANTHROPIC}, {"timings": {"prompt_n": 10, "cache_n": 90, "predicted_n": 7}},
        {"message": {"usage": ANTHROPIC}}, {"usage": OPENAI, "timings": {"prompt_n": 1, "predicted_n": 1}},
    ],
)  # fmt: skip
def test_every_report_is_understood(whole: dict[str, Any]) -> None:
    meter = Meter()
    data = json.dumps(whole).encode()
    for start in range(0, len(data), 5):
        meter.piece(data[start : start + 5])
    meter.whole()
    assert meter.reported == meter.used(9, complete=True) == Tokens(100, 90, 7)
    assert meter.reported.computed == 17


NO_REPORTS: list[Any] = [
    None, 7, [], {"prompt_tokens": "x"}, {"input_tokens": -5, "output_tokens": True}, {"prompt_tokens": 1 << 70},
]  # fmt: skip


@pytest.mark.parametrize("usage", NO_REPORTS)
def test_a_report_that_is_none_counts_nothing_and_size_decides(usage: Any) -> None:
    meter = Meter()
    meter.look({"usage": usage, "timings": usage, "message": usage})
    assert meter.reported == Tokens()
    meter.piece(b"x" * 360)
    assert meter.used(3600, complete=True) == Tokens(1000, 0, 100)


def test_a_stream_reports_at_both_its_ends() -> None:
    meter = Meter()
    passed = PassedStream(anthropic=True, meter=meter)
    for event in (
        {"type": "message_start", "message": {"usage": {**ANTHROPIC, "output_tokens": 1}}},
        *({"type": "content_block_delta", "delta": {"text": "x"}} for _ in range(20)),
    ):
        passed.receive(f"event: e\ndata: {json.dumps(event)}\n\n".encode())
    assert meter.used(5, complete=False) == Tokens(100, 90, 21), "cut off: what was written counts by its events"
    passed.receive(b'data: {"type": "message_delta", "usage": {"output_tokens": 18}}\n\n')
    assert meter.used(5, complete=True) == Tokens(100, 90, 18)


def test_a_stream_without_a_report_counts_by_its_events() -> None:
    meter = Meter()
    passed = PassedStream(anthropic=False, meter=meter)
    passed.receive(b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n' * 50)
    assert meter.used(360, complete=True) == Tokens(100, 0, 50)
    assert meter.used(360, complete=False) == Tokens(0, 0, 50)


def test_an_answer_that_is_too_large_to_look_into_is_counted_by_its_size() -> None:
    meter = Meter()
    for _ in range(2):
        meter.piece(b" " * MOST_GATHERED)
    meter.whole()
    assert meter.used(0, complete=True).output > MOST_GATHERED / 4


def test_what_was_written_to_the_cache_is_part_of_the_prompt_and_was_computed() -> None:
    usage = Usage(input_tokens=5, cache_creation_input_tokens=4, cache_read_input_tokens=3, output_tokens=1)
    tokens = tokens_of(usage, sent=1000, streamed=0, complete=True)
    assert tokens == Tokens(12, 3, 1) and tokens.computed == 10


def test_a_translated_message_counts_as_its_upstream_reported_it() -> None:
    usage = Usage(input_tokens=10, cache_read_input_tokens=90, output_tokens=7)
    assert tokens_of(usage, sent=1, streamed=900, complete=True) == Tokens(100, 90, 7)
    assert tokens_of(usage, sent=1, streamed=2400, complete=False) == Tokens(0, 0, 20)
    assert tokens_of(Usage(), sent=36, streamed=240, complete=True) == Tokens(10, 0, 2)
