"""Saved states and the warm start on the terminal and as JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmstack.commands import command_line
from llmstack.render.output import show
from llmstack.warmstart.store import StoredState
from llmstack.warmstart.toolcalls import StoredToolCall


@dataclass(frozen=True, slots=True)
class SavedStates:
    """What `cache list` shows. folder: of the deployed server's states, empty when none is deployed. budget: bytes."""

    states: list[StoredState]
    folder: str
    budget: int
    calls: list[StoredToolCall]

    def to_json(self) -> dict[str, Any]:
        listed = [
            {
                "name": state.name,
                "kind": state.kind,
                "model": state.model,
                "tokens": state.tokens,
                "bytes": state.size,
                "used": state.used,
                "of_deployed": state.folder == self.folder,
            }
            for state in self.states
        ]
        return {
            "states": listed,
            "bytes": sum(state.size for state in self.states),
            "budget_bytes": self.budget,
            "tool_calls": {"calls": len(self.calls), "bytes": _bytes_of(self.calls)},
        }


def show_states(saved: SavedStates) -> None:
    states, calls = saved.states, saved.calls
    if calls:
        show(f"{len(calls):,} tool calls as the model wrote them, {_bytes_of(calls) / 1e6:,.1f} MB")
    if not states:
        show("nothing is saved; the first message of a client is computed in full, then kept")
        return
    show(f"{'kind':<13} {'model':<24} {'tokens':>9} {'size':>10}  {'last used':<10} for")
    for state in states:
        whose = "this server" if state.folder == saved.folder else "other flags or another engine"
        size = f"{state.size / 1e6:,.1f} MB"
        show(f"{state.kind:<13} {state.model[:24]:<24} {state.tokens:>9,} {size:>10}  {_ago(state.used):<10} {whose}")
    total = sum(state.size for state in states)
    show(f"{total / 1e9:.2f} of {saved.budget / 1e9:.1f} GB; the least recently used go first")


def show_cleared(cleared: Mapping[str, int]) -> None:
    removed = f"removed {cleared['removed']} saved states and what belongs to them, {cleared['bytes'] / 1e6:,.1f} MB"
    show(removed if cleared["bytes"] else "nothing was saved")


def show_warmed(status: Mapping[str, Any]) -> None:
    """status: what the proxy answers to a request to warm (`deploy.warm`)."""
    source = {"restored": "restored from disk", "computed": "computed and saved"}.get(status["source"] or "", "held")
    if status["prefix_tokens"]:
        show(f"warm: {status['prefix_tokens']:,} tokens, {source}")
    else:
        learn = command_line("warm", "--client", "claude")
        show(f"cold: no client has asked anything yet; {learn}   learns its prompt")


def _bytes_of(calls: list[StoredToolCall]) -> int:
    return sum(len(call.arguments.encode()) for call in calls)


def _ago(when: float) -> str:
    seconds = max(time.time() - when, 0)
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {name}"
    return "now"
