"""Which names Claude Code's tiers go out under, so that a user's routes for them get something to match."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

from llmstack.catalog.routes import Routing

# Of each tier the names that Claude Code itself uses, newest first (observed: docs/claude-code.md, "What it sets").
NAMES: Mapping[str, tuple[str, ...]] = {
    "opus": ("claude-opus-4-8", "claude-opus-4-5", "claude-opus-4-1", "claude-opus-4-20250514"),
    "sonnet": ("claude-sonnet-4-6", "claude-sonnet-4-5", "claude-sonnet-4-20250514", "claude-3-7-sonnet-latest"),
    "haiku": ("claude-haiku-4-5-20251001", "claude-haiku-4-5", "claude-3-5-haiku-20241022"),
}


def routed_tiers(routing: Routing) -> dict[str, str]:
    """By tier, the name that the first route for it takes; a tier that only a route for every name takes has none."""
    return {tier: name for tier in NAMES if (name := _routed(tier, routing)) is not None}


def _routed(tier: str, routing: Routing) -> str | None:
    for route in routing.routes:
        if route.match.strip("*") == "":
            return None
        for name in (*NAMES[tier], *_spelled_out(tier, route.match)):
            # The first route that takes a name has it, so an earlier one must not.
            choice = routing.choose(name)
            if fnmatch.fnmatchcase(name, route.match) and choice is not None and choice.match == route.match:
                return name
    return None


def _spelled_out(tier: str, glob: str) -> tuple[str, ...]:
    """A name of this tier that the glob takes, for one that takes none of the usual ones (`claude-opus-9*`)."""
    return (glob.replace("*", "").replace("?", "0").rstrip("-"), glob.replace("*", "0")) if tier in glob else ()
