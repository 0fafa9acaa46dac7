"""docs/coverage.md: no row without a test, and every test that it names is there."""

from __future__ import annotations

import ast
import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def rows() -> list[list[str]]:
    lines = (ROOT / "docs" / "coverage.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[0] not in ("in the article", "---")]


def names(file: Path) -> list[str]:
    """`test_x` and `TestClass::test_x` of a file."""
    found = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node.name)
        elif isinstance(node, ast.ClassDef):
            found += [f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)]
    return [name for name in found if name.rpartition("::")[2].startswith("test_")]


def test_every_row_names_a_command_and_a_test_that_exists() -> None:
    found = rows()
    assert len(found) > 70
    wrong = []
    for row in found:
        path, _, name = row[2].strip("`").partition("::")
        file = ROOT / path
        if len(row) < 3 or not row[1] or not file.is_file() or not fnmatch.filter(names(file), name):
            wrong.append(row[:3])
    assert not wrong
