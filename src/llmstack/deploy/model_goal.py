"""What the catalog says of a model, as part of the goal: `plan` and `up` both take it from here."""

from __future__ import annotations

from dataclasses import replace

from llmstack.catalog.models import Model
from llmstack.plan import Goal


def with_entry(goal: Goal, entry: Model | None) -> Goal:
    """The maker's sampling settings become the server's defaults; a request that sets its own is not touched."""
    if entry is None:
        return goal
    return replace(goal, extra=(*goal.extra, *entry.server_flags(thinking=goal.reasoning != "off")))
