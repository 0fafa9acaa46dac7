"""Unit files as pure text: render a `Service`, read one back, compare desired with installed."""

from __future__ import annotations

from llmstack.units.diff import ChangeKind, UnitChange, UnitDiff, diff
from llmstack.units.mark import UnitOrigin, mark, origin
from llmstack.units.render import Tier, UnitSettings, render, unit_name

__all__ = [
    "ChangeKind",
    "Tier",
    "UnitChange",
    "UnitDiff",
    "UnitOrigin",
    "UnitSettings",
    "diff",
    "mark",
    "origin",
    "render",
    "unit_name",
]
