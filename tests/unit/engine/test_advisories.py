"""Which known holes an engine in use is open to."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.engine.advisories import ADVISORIES, MIN_BUILD, open_in
from llmstack.engine.forks import MARKS
from llmstack.llama_server.request_fields import FIELDS, WITHHELD

LISTED = Path(__file__).parents[1] / "llama_server" / "options_of_11434.txt"


def ids(build: int | None, *, rpc: bool = False) -> set[str]:
    return {advisory.id for advisory in open_in(build, rpc=rpc)}


@pytest.mark.parametrize(
    ("build", "rpc", "expected"),
    [
        (11392, False, {"CVE-2026-107183", "CVE-2026-134540", "llama.cpp#26318"}),
        (11393, False, {"CVE-2026-134540", "llama.cpp#26318"}),
        (11434, True, {"CVE-2026-134540", "CVE-2026-118375", "llama.cpp#26318"}),
        (11549, True, {"CVE-2026-134540", "CVE-2026-118375", "CVE-2026-137567", "llama.cpp#26318"}),
        (11549, False, {"CVE-2026-134540", "llama.cpp#26318"}),
        (12405, True, {"CVE-2026-137567", "llama.cpp#26318"}),
        (12658, True, {"llama.cpp#26318"}),
        (None, True, set()),
    ],
)
def test_a_hole_is_open_from_the_build_that_brought_it_to_the_one_that_closed_it(
    build: int | None, rpc: bool, expected: set[str]
) -> None:
    assert ids(build, rpc=rpc) == expected


def test_what_nothing_protects_comes_first() -> None:
    protected = [bool(advisory.protection) for advisory in open_in(11549, rpc=True)]
    assert protected == sorted(protected) and not protected[0]


def test_every_build_that_is_started_has_a_protection_for_what_a_request_can_reach() -> None:
    for advisory in ADVISORIES:
        if advisory.needs_rpc or (advisory.id in ids(MIN_BUILD) and advisory.protection):
            continue
        assert advisory.fixed is not None and advisory.fixed <= MIN_BUILD, advisory.id
    for field in ("chat_parser", "grammar_triggers"):
        assert field in WITHHELD and field not in FIELDS


def test_no_mark_of_a_fork_is_a_flag_of_llama_cpp() -> None:
    listed = set(LISTED.read_text().replace(",", " ").split())
    assert not listed & {mark for marks in MARKS.values() for mark in marks}
