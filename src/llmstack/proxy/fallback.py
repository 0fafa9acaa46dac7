"""The targets of a route, tried one after the other until one has answered.

| outcome of an attempt | what happens                                                                       |
| --------------------- | ---------------------------------------------------------------------------------- |
| Answered              | it is the outcome of the route: the answer is complete, or ended in an error event  |
| Handover              | likewise: an Anthropic upstream is next, each client passes its own request on      |
| Unanswered            | the next target, if the route has one and names the cause, and nothing has begun    |

An attempt writes its own record and returns an outcome; nobody else's state changes here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from llmstack.catalog.routes import RouteChoice, Target
from llmstack.protocol.errors import Cause, Failure


@dataclass(frozen=True, slots=True)
class Answered:
    """The upstream's answer was passed on up to its end, whatever that was."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nothing has come of it. final: no other target may be tried, because a part was sent that can't be taken back."""

    failure: Failure
    final: bool = False


@dataclass(frozen=True, slots=True)
class Handover:
    """fallback: "FROM->TO: cause", or "" when the route begins with this target."""

    target: Target
    fallback: str


Outcome = Answered | Unanswered | Handover


@dataclass(frozen=True, slots=True)
class Turn:
    """One target's turn. after: why the one before it did not answer; fallback: the same for a header and the log."""

    target: Target
    after: Failure | None = None
    fallback: str = ""


@dataclass(frozen=True, slots=True)
class Fallback:
    route: RouteChoice
    request_id: str
    log_event: Callable[[str, dict[str, Any]], None]

    async def first_answer(self, attempt: Callable[[Turn], Awaitable[Outcome]]) -> Outcome:
        """The outcome of the last attempt that was made."""
        turn = Turn(self.route.targets[0])
        for following in self.route.targets[1:]:
            outcome = await attempt(turn)
            if not isinstance(outcome, Unanswered) or not self._goes_on(outcome):
                return outcome
            cause = outcome.failure.cause.value
            self.log_event("fallback", {"id": self.request_id, "to": following.name, "cause": cause})
            turn = Turn(following, outcome.failure, f"{turn.target.name}->{following.name}: {cause}")
        return await attempt(turn)

    def _goes_on(self, outcome: Unanswered) -> bool:
        # An engine that a request ends is as good as out of reach for it.
        cause = outcome.failure.cause
        causes = {cause.value, Cause.UNREACHABLE.value} if cause is Cause.ENGINE_DIED else {cause.value}
        return not outcome.final and not causes.isdisjoint(self.route.fallback_on)
