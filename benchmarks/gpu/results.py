"""What a phase measured: one JSON file, written anew with each row, so that a run cut off at any moment goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmstack.errors import StackError

Row = dict[str, Any]


class TimeOver(Exception):
    """What a cell measures is not whole: taken again, it goes on."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure. key: unlike any other of its phase. seconds: that it may take, about."""

    key: str
    take: Callable[[], Row]
    seconds: float = 60.0


class Results:
    """The rows of one phase, by their keys."""

    def __init__(self, path: Path, about: Row) -> None:
        self._path, self._about = path, about
        self.rows: dict[str, Row] = {}
        if path.exists():
            self.rows = {row["key"]: row for row in json.loads(path.read_text())["rows"]}

    def add(self, key: str, row: Row) -> None:
        self.rows[key] = {"key": key, **row}
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps({**self._about, "rows": list(self.rows.values())}, indent=1) + "\n")
        partial.replace(self._path)

    def take_all(self, cells: Iterable[Cell], *, minutes: float, again: bool, say: Callable[[str], None]) -> bool:
        """Measures what is not there yet. False when the time did not reach: call it again.

        A cell that fails is a row with its error, and is tried again only when asked to (again).
        """
        deadline = time.monotonic() + minutes * 60
        for cell in cells:
            row = self.rows.get(cell.key)
            if row is not None and not (again and "error" in row):
                continue
            if time.monotonic() + cell.seconds > deadline:
                say(f"no time left for {cell.key}: the same command goes on there")
                return False
            say(cell.key)
            began = time.monotonic()
            try:
                taken = cell.take()
            except TimeOver:
                say(f"no time left for {cell.key}: the same command goes on there")
                return False
            except Exception as error:  # a card is at hand for minutes: one cell must not cost the others
                name = "" if isinstance(error, StackError) else f"{type(error).__name__}: "
                taken = {"error": f"{name}{error}", "why": getattr(error, "why", "")}
                say(f"failed: {taken['error']}")
            self.add(cell.key, {**taken, "took_s": round(time.monotonic() - began, 2)})
        return True


def read(out: Path, phase: str) -> dict[str, Any]:
    """The file of one phase; without rows where it never ran."""
    path = out / f"{phase}.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": []}
    return content
