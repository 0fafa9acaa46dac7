"""The targets of a route: who is tried after whom, and why not."""

from __future__ import annotations

from typing import Any

import pytest

from llmstack.catalog.routes import RouteChoice, parse
from llmstack.errors import BadInput
from llmstack.protocol.errors import Cause, Failure, FailureKind
from llmstack.proxy.fallback import Answered, Fallback, Handover, Outcome, Turn, Unanswered

UPSTREAMS = "".join(
    f'[upstreams.{name}]\nkind = "{kind}"\nbase_url = "http://{name}"\n'
    for name, kind in (("a", "openai"), ("b", "openai"), ("c", "anthropic"))
)


def route(*causes: str) -> RouteChoice:
    said = f"fallback_on = {list(causes)}\n" if causes else ""
    choice = parse(f'{UPSTREAMS}[[routes]]\nmatch = "*"\nupstream = "a"\nfallback = ["b", "c"]\n{said}').choose("m")
    assert choice is not None
    return choice


def failed(cause: Cause, *, final: bool = False) -> Unanswered:
    return Unanswered(Failure(FailureKind.API, cause.value, cause), final)


class Tried:
    """Outcomes by upstream; remembers whose turn it was, and what the log was told."""

    def __init__(self, **outcomes: Outcome) -> None:
        self._outcomes = outcomes
        self.turns: list[Turn] = []
        self.log: list[tuple[str, dict[str, Any]]] = []

    async def attempt(self, turn: Turn) -> Outcome:
        self.turns.append(turn)
        return self._outcomes[turn.target.name]

    async def along(self, choice: RouteChoice) -> Outcome:
        fallback = Fallback(choice, "req_1", lambda event, fields: self.log.append((event, fields)))
        return await fallback.first_answer(self.attempt)

    @property
    def names(self) -> list[str]:
        return [turn.target.name for turn in self.turns]


async def test_the_first_that_answers_is_the_last_that_is_tried() -> None:
    tried = Tried(a=Answered())
    assert await tried.along(route()) == Answered()
    assert tried.names == ["a"] and tried.turns[0].fallback == "" and not tried.log


async def test_each_turn_knows_why_the_one_before_did_not_answer() -> None:
    tried = Tried(a=failed(Cause.UNREACHABLE), b=failed(Cause.LOADING), c=Answered())
    assert await tried.along(route()) == Answered()
    assert [turn.fallback for turn in tried.turns] == ["", "a->b: unreachable", "b->c: loading"]
    assert tried.turns[2].after == failed(Cause.LOADING).failure
    assert tried.log[0] == ("fallback", {"id": "req_1", "to": "b", "cause": "unreachable"})


async def test_the_last_failure_is_the_routes() -> None:
    tried = Tried(a=failed(Cause.TIMEOUT), b=failed(Cause.TIMEOUT), c=failed(Cause.OVERLOADED))
    assert await tried.along(route()) == failed(Cause.OVERLOADED)
    assert tried.names == ["a", "b", "c"] and len(tried.log) == 2


async def test_a_cause_that_the_route_does_not_name_ends_it() -> None:
    tried = Tried(a=failed(Cause.CLIENT))
    assert await tried.along(route()) == failed(Cause.CLIENT)
    tried = Tried(a=failed(Cause.UNREACHABLE))
    assert await tried.along(route("overflow")) == failed(Cause.UNREACHABLE)
    assert tried.names == ["a"]


async def test_what_has_begun_is_never_begun_again() -> None:
    tried = Tried(a=failed(Cause.TIMEOUT, final=True))
    assert await tried.along(route()) == failed(Cause.TIMEOUT, final=True)
    assert tried.names == ["a"]


async def test_a_handover_is_an_outcome() -> None:
    choice = route()
    handover = Handover(choice.targets[2], "b->c: loading")
    tried = Tried(a=failed(Cause.LOADING), b=handover)
    assert await tried.along(choice) is handover


async def test_what_a_dialect_lacks_goes_on_where_the_route_says_so() -> None:
    tried = Tried(a=failed(Cause.UNSUPPORTED), b=Answered())
    assert await tried.along(route("unsupported")) == Answered()
    tried = Tried(a=failed(Cause.UNSUPPORTED))
    assert await tried.along(route()) == failed(Cause.UNSUPPORTED), "not by itself"


def test_an_unknown_cause_in_models_toml_is_named() -> None:
    with pytest.raises(BadInput, match="unknown cause: tired"):
        route("tired")
