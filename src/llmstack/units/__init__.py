"""Unit files as pure text: render a `Service`, read one back, compare desired with installed."""

from __future__ import annotations

from llmstack.units.diff import Change, ChangeKind, UnitDiff, diff
from llmstack.units.mark import Origin, mark, origin
from llmstack.units.render import Tier, UnitSettings, render, unit_name

__all__ = [
    "Change",
    "ChangeKind",
    "Origin",
    "Tier",
    "UnitDiff",
    "UnitSettings",
    "diff",
    "mark",
    "origin",
    "render",
    "unit_name",
]
