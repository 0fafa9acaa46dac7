"""Anything from outside, by seed, bounded: `python -m support.fuzz` goes on for a minute each from seeds of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.fuzz import bodies, headers, streams, texts

# As many as some ten seconds take on one core, each; what was found once stands before them.
SEEDS = {headers.one: 700, streams.one: 8000, bodies.one: 40_000, texts.one: 4000}
FOUND = {texts.one: (305452547, 305453612)}


@pytest.mark.parametrize("one", SEEDS, ids=lambda one: one.__module__.rpartition(".")[2])
def test_it_is_read_or_refused_in_words(one: Callable[[int], None]) -> None:
    for seed in (*FOUND.get(one, ()), *range(SEEDS[one])):
        try:
            one(seed)
        except Exception as error:
            name = one.__module__.rpartition(".")[2]
            raise AssertionError(f"python -m support.fuzz {name} {seed}") from error
