"""What a figure measured so far: one JSON object a line, so that a run that was cut short goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Rows:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            self.rows = [json.loads(line) for line in path.read_text().splitlines()]

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self._path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
