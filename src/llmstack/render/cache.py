"""Saved states on the terminal and as JSON."""

from __future__ import annotations

import time
from typing import Any

from llmstack.render.output import show
from llmstack.snapshots import Call, Entry


def entries_json(entries: list[Entry], folder: str, budget: int, calls: list[Call]) -> dict[str, Any]:
    listed = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "model": entry.model,
            "tokens": entry.tokens,
            "bytes": entry.size,
            "used": entry.used,
            "of_deployed": entry.folder == folder,
        }
        for entry in entries
    ]
    remembered = {"calls": len(calls), "bytes": _bytes_of(calls)}
    return {
        "states": listed,
        "bytes": sum(entry.size for entry in entries),
        "budget_bytes": budget,
        "tool_calls": remembered,
    }


def show_entries(entries: list[Entry], folder: str, budget: int, calls: list[Call]) -> None:
    if calls:
        show(f"{len(calls):,} tool calls as the model wrote them, {_bytes_of(calls) / 1e6:,.1f} MB")
    if not entries:
        show("nothing is saved; the first message of a client is computed in full, then kept")
        return
    show(f"{'kind':<13} {'model':<24} {'tokens':>9} {'size':>10}  {'last used':<10} for")
    for entry in entries:
        whose = "this server" if entry.folder == folder else "other flags or another engine"
        size = f"{entry.size / 1e6:,.1f} MB"
        show(f"{entry.kind:<13} {entry.model[:24]:<24} {entry.tokens:>9,} {size:>10}  {_ago(entry.used):<10} {whose}")
    show(f"{sum(e.size for e in entries) / 1e9:.2f} of {budget / 1e9:.1f} GB; the least recently used go first")


def _bytes_of(calls: list[Call]) -> int:
    return sum(len(call.arguments.encode()) for call in calls)


def _ago(when: float) -> str:
    seconds = max(time.time() - when, 0)
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {name}"
    return "now"
