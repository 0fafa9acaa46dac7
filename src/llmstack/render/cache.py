"""Saved states and the warm start on the terminal and as JSON."""

from __future__ import annotations

import time
from typing import Any

from llmstack.render.output import show
from llmstack.warmstart.store import StoredState
from llmstack.warmstart.toolcalls import StoredToolCall


def states_json(states: list[StoredState], folder: str, budget: int, calls: list[StoredToolCall]) -> dict[str, Any]:
    listed = [
        {
            "name": state.name,
            "kind": state.kind,
            "model": state.model,
            "tokens": state.tokens,
            "bytes": state.size,
            "used": state.used,
            "of_deployed": state.folder == folder,
        }
        for state in states
    ]
    remembered = {"calls": len(calls), "bytes": _bytes_of(calls)}
    return {
        "states": listed,
        "bytes": sum(state.size for state in states),
        "budget_bytes": budget,
        "tool_calls": remembered,
    }


def show_states(states: list[StoredState], folder: str, budget: int, calls: list[StoredToolCall]) -> None:
    if calls:
        show(f"{len(calls):,} tool calls as the model wrote them, {_bytes_of(calls) / 1e6:,.1f} MB")
    if not states:
        show("nothing is saved; the first message of a client is computed in full, then kept")
        return
    show(f"{'kind':<13} {'model':<24} {'tokens':>9} {'size':>10}  {'last used':<10} for")
    for state in states:
        whose = "this server" if state.folder == folder else "other flags or another engine"
        size = f"{state.size / 1e6:,.1f} MB"
        show(f"{state.kind:<13} {state.model[:24]:<24} {state.tokens:>9,} {size:>10}  {_ago(state.used):<10} {whose}")
    show(f"{sum(state.size for state in states) / 1e9:.2f} of {budget / 1e9:.1f} GB; the least recently used go first")


def cleared_json(number: int, size: int) -> dict[str, Any]:
    return {"removed": number, "bytes": size}


def show_cleared(number: int, size: int) -> None:
    removed = f"removed {number} saved states and what belongs to them, {size / 1e6:,.1f} MB"
    show(removed if size else "nothing was saved")


def show_warmed(status: dict[str, Any]) -> None:
    """What `llmstack warm` has done; the proxy's answer."""
    source = {"restored": "restored from disk", "computed": "computed and saved"}.get(status["source"] or "", "held")
    if status["prefix_tokens"]:
        show(f"warm: {status['prefix_tokens']:,} tokens, {source}")
    else:
        show("cold: no client has asked anything yet; llmstack warm --client claude   learns its prompt")


def _bytes_of(calls: list[StoredToolCall]) -> int:
    return sum(len(call.arguments.encode()) for call in calls)


def _ago(when: float) -> str:
    seconds = max(time.time() - when, 0)
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {name}"
    return "now"
