"""Desired units against installed ones, as data; `render` shows it, `apply` acts on it."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping
from dataclasses import dataclass

from llmstack.units.mark import UnitOrigin, origin


class ChangeKind(enum.StrEnum):
    SAME = "same"
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    KEPT = "kept"  # edited by hand: left as it is unless forced
    FOREIGN = "foreign"  # not ours: never touched


@dataclass(frozen=True, slots=True)
class UnitChange:
    """lines: a unified diff without its two file lines; empty where the text is the same."""

    unit: str
    kind: ChangeKind
    lines: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        return self.kind in (ChangeKind.ADDED, ChangeKind.CHANGED)


@dataclass(frozen=True, slots=True)
class UnitDiff:
    changes: tuple[UnitChange, ...]

    @property
    def empty(self) -> bool:
        return all(change.kind is ChangeKind.SAME for change in self.changes)

    def of(self, kind: ChangeKind) -> tuple[UnitChange, ...]:
        return tuple(change for change in self.changes if change.kind is kind)


def diff(desired: Mapping[str, str], installed: Mapping[str, str], *, force: bool = False) -> UnitDiff:
    """By unit name. `force` overwrites and removes units edited by hand, never foreign ones."""
    changes = []
    for unit in sorted({*desired, *installed}):
        before, after = installed.get(unit), desired.get(unit)
        changes.append(UnitChange(unit, _kind(before, after, force), _lines(before or "", after or "")))
    return UnitDiff(tuple(changes))


def _kind(before: str | None, after: str | None, force: bool) -> ChangeKind:
    if before is None:
        return ChangeKind.ADDED
    if before == after:
        return ChangeKind.SAME
    match origin(before):
        case UnitOrigin.FOREIGN:
            return ChangeKind.FOREIGN
        case UnitOrigin.EDITED if not force:
            return ChangeKind.KEPT
    return ChangeKind.REMOVED if after is None else ChangeKind.CHANGED


def _lines(before: str, after: str) -> tuple[str, ...]:
    return tuple(difflib.unified_diff(before.split("\n"), after.split("\n"), lineterm="", n=2))[2:]
