"""Which list of known models is in use, and what a newer one changes."""

from __future__ import annotations

from collections.abc import Sequence

from llmstack.catalog.fetched import ChangeOfEntry, EntryDifference
from llmstack.commands import command_line
from llmstack.fetch.catalog_in_use import CatalogState, TakenCatalog
from llmstack.fetch.catalog_source import Refreshed
from llmstack.gguf import printable
from llmstack.render.output import show, style

_MARKS = {
    ChangeOfEntry.ADDED: ("+", "green"),
    ChangeOfEntry.CHANGED: ("~", "yellow"),
    ChangeOfEntry.GONE: ("-", "red"),
}
MOST_KEYS = 8


def show_refreshed(seen: Refreshed, *, only_show: bool) -> None:
    _changes(seen.changes)
    if not seen.is_new:
        show(f"it is the one in use: {_of(seen.taken)}")
    elif only_show:
        show(f"nothing was taken; {command_line('catalog', 'refresh')}   takes it: {_of(seen.taken)}")
    else:
        show(f"in use: {_of(seen.taken)}")
        show(f"{command_line('catalog', 'back')}   goes back")


def show_state(now: CatalogState) -> None:
    show(f"in use: {_of(now.current)}" if now.current is not None else "in use: the shipped catalog")
    if now.current is not None:
        show(f"before it: {_of(now.before) if now.before is not None else 'the shipped catalog'}")


def show_back(now: CatalogState, changes: Sequence[EntryDifference]) -> None:
    _changes(changes)
    show_state(now)


def _changes(changes: Sequence[EntryDifference]) -> None:
    if not changes:
        show("no model changes")
    for one in changes:
        mark, colour = _MARKS[one.change]
        keys = ", ".join(one.keys[:MOST_KEYS]) + (
            f" and {len(one.keys) - MOST_KEYS} more" if one.keys[MOST_KEYS:] else ""
        )
        show(f"{style(mark, colour)} {printable(one.name, 100)}" + (f"  {printable(keys, 400)}" if keys else ""))


def _of(taken: TakenCatalog) -> str:
    return f"{taken.source}, sha256 {taken.sha256[:16]}…, newest entry of {taken.newest}, taken {taken.taken_at[:10]}"
