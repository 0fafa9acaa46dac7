"""Tests as documents name them: `tests/unit/x/test_y.py::test_z`, `…::TestA::test_b`, or a pattern with `*`."""

from __future__ import annotations

import ast
import fnmatch
from functools import cache
from pathlib import Path

from support.paths import ROOT


@cache
def names(file: Path) -> tuple[str, ...]:
    """`test_x` and `TestClass::test_x` of a file."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    every = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, functions):
            every.append(node.name)
        elif isinstance(node, ast.ClassDef):
            every += [f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, functions)]
    return tuple(name for name in every if name.rpartition("::")[2].startswith("test_"))


def exists(test: str) -> bool:
    path, _, name = test.partition("::")
    return (ROOT / path).is_file() and bool(fnmatch.filter(names(ROOT / path), name))
