"""What else could be had: the searches and scores that a plan's reasons and alternatives are worded from."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace

from llmstack.plan.goal import DEFAULT_KV
from llmstack.plan.search import Candidate, Search


class Trade(enum.Enum):
    """What an alternative gives up or gains against the chosen assignment."""

    TWICE_THE_CONTEXT = enum.auto()
    FINER_CACHE = enum.auto()
    WINDOW_ONLY = enum.auto()  # without --swa-full
    WHOLE_HISTORY = enum.auto()  # with --swa-full
    BLOCKS_AND_CACHE_IN_RAM = enum.auto()


@dataclass(frozen=True, slots=True)
class Trades:
    """alternatives: assignments other than the chosen one, those worth knowing.

    with_draft_model: the best one that uses the goal's draft model, where the chosen one leaves it out for its speed;
    None where it fits beside the model nowhere, and where it was not looked for.
    """

    alternatives: tuple[tuple[Trade, Candidate], ...]
    with_draft_model: Candidate | None


def find_trades(search: Search, chosen: Candidate) -> Trades:
    others = ((trade, other) for trade, other in _alternatives(search, chosen) if other is not None)
    differing = tuple((trade, other) for trade, other in others if other.assignment != chosen.assignment)
    with_draft_model = None
    if rejects_draft_model(search, chosen):
        with_draft_model = _best(search, chosen, drafter=True)
    return Trades(differing, with_draft_model)


def rejects_draft_model(search: Search, chosen: Candidate) -> bool:
    """Whether a draft model that could be used here was left out for its speed or its memory."""
    free = search.pinned.get("drafter") is not False and search.pinned.get("draft_max") != 0
    usable = search.goal.draft is not None and not search.no_draft_model and bool(search.hardware.devices)
    return usable and free and not chosen.assignment.draft_max


def _alternatives(search: Search, chosen: Candidate) -> Iterator[tuple[Trade, Candidate | None]]:
    a, facts, pinned = chosen.assignment, search.facts, search.pinned
    if "ctx" not in pinned and facts.n_ctx_train >= 2 * a.ctx:
        yield Trade.TWICE_THE_CONTEXT, search.best(2 * a.ctx, a.type_k, a.type_v)
    if "type_k" not in pinned and a.type_k == DEFAULT_KV:
        yield Trade.FINER_CACHE, search.best(a.ctx, "q8_0", "q8_0")
    if facts.has_window and "swa_full" not in pinned and not search.goal.keeps_checkpoints:
        if a.swa_full:
            yield Trade.WINDOW_ONLY, search.score(replace(a, swa_full=False))
        else:
            yield Trade.WHOLE_HISTORY, _best(search, chosen, swa_full=True)
    if facts.moe and a.ncmoe and "ngl" not in pinned and "nkvo" not in pinned:
        yield Trade.BLOCKS_AND_CACHE_IN_RAM, _best(search, chosen, nkvo=True, ncmoe=0)


def _best(search: Search, chosen: Candidate, **pinned: object) -> Candidate | None:
    """The best with these fields pinned besides, for the same context and cache type."""
    a = chosen.assignment
    other = Search(search.facts, search.hardware, search.goal, {**search.pinned, **pinned})
    return other.best(a.ctx, a.type_k, a.type_v)
