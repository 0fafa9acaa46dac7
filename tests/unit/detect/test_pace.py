"""The machine's own pace: real work on every thread, or nothing at all."""

from __future__ import annotations

import hashlib

import pytest

from llmstack.detect.pace import pace


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_pace_is_pieces_per_second_and_at_least_one_piece_is_done(threads: int) -> None:
    found = pace(threads, 0.0)
    assert found is not None and found > 0


def test_every_thread_works_and_the_slowest_counts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(hashlib, "scrypt", lambda *_, **how: calls.append(how["maxmem"]))
    assert pace(3, 0.0) is not None and len(calls) == 3


def test_without_scrypt_there_is_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(hashlib, "scrypt")
    assert pace(2, 0.0) is None
