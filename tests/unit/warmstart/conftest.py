"""Hears what a store or a log of calls says."""

from __future__ import annotations

from typing import Any

import pytest


class Said:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        self.lines.append({"event": event, **fields})


@pytest.fixture
def said() -> Said:
    return Said()
