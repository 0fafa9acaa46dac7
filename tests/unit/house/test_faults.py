"""docs/faults.md: every row names a test that is there, and every number that is used has a row."""

from __future__ import annotations

import re

from support.named_tests import exists
from support.paths import DOCS, ROOT

_ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| `([^`]+)` \|$", re.MULTILINE)
_USE = re.compile(r"\bfaults? (\d+)\b|test_fault_(\d+)_", re.IGNORECASE)
ROWS = {int(number): test for number, _, _, test in _ROW.findall((DOCS / "faults.md").read_text())}


def test_the_numbers_run_from_1_without_a_gap() -> None:
    assert list(ROWS) == list(range(1, len(ROWS) + 1)) and len(ROWS) >= 51


def test_every_fault_has_a_test_that_exists() -> None:
    assert {number: test for number, test in ROWS.items() if not exists(test)} == {}


def test_every_number_that_is_used_is_in_the_list() -> None:
    strange = []
    for folder in ("src", "tests", "templates"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".toml", ".j2"):
                numbers = {int(first or second) for first, second in _USE.findall(path.read_text())}
                strange += [f"{path.relative_to(ROOT)}: fault {number}" for number in sorted(numbers - ROWS.keys())]
    assert strange == []
