"""docs/coverage.md: no row without a test, and every test that it names is there."""

from __future__ import annotations

from support.named_tests import exists
from support.paths import DOCS


def rows() -> list[list[str]]:
    lines = (DOCS / "coverage.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[0] not in ("in the article", "---")]


def test_every_row_names_a_command_and_a_test_that_exists() -> None:
    every = rows()
    assert len(every) > 70
    assert [row[:3] for row in every if len(row) < 3 or not row[1] or not exists(row[2].strip("`"))] == []
