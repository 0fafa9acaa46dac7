"""A metric's name says what it measures, also in the history of earlier releases."""

from __future__ import annotations

import pytest

from llmstack.bench.metrics import Quantity, decode_at, decode_of, prefill_at, quantity_of


@pytest.mark.parametrize(
    ("name", "quantity"),
    [
        ("prefill at 0", Quantity.PREFILL),
        ("decode at 16384", Quantity.DECODE),
        ("decode, 4 streams", Quantity.STREAMS),
        ("first token cold", Quantity.FIRST_COLD),
        ("first token warm", Quantity.FIRST_WARM),
        ("first token after restart", Quantity.FIRST_RESTARTED),
        ("cache hit ratio", Quantity.HIT_RATIO),
        ("proxy overhead", Quantity.OVERHEAD),
        ("prefill at depth", None),
        ("prefill and decode together", None),
    ],
)
def test_names_are_read(name: str, quantity: Quantity | None) -> None:
    assert quantity_of(name) is quantity


def test_names_are_written_as_they_are_read() -> None:
    assert (prefill_at(2048), decode_at(0), decode_of(4)) == ("prefill at 2048", "decode at 0", "decode, 4 streams")
    assert [q for q in Quantity if q.is_first_token] == [
        Quantity.FIRST_COLD, Quantity.FIRST_WARM, Quantity.FIRST_RESTARTED,
    ]  # fmt: skip
