"""What the deployed plan expects of a piece of work, at exactly its size and depth."""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.hardware import Hardware
from llmstack.plan import ModelFacts
from llmstack.plan.assignment import Assignment
from llmstack.plan.calibrate import Observation, predict_s, stated_error
from llmstack.stackfile import StackRecord

SMALLEST = 16 << 20  # bytes: below it fixed costs rule, which the speed model leaves out; nothing is judged by it


@dataclass(frozen=True, slots=True)
class ExpectedSpeed:
    facts: ModelFacts
    hardware: Hardware
    assignment: Assignment
    drafter: ModelFacts | None = None  # the second model that guesses ahead

    @property
    def judges(self) -> bool:
        """Whether the model is large enough for the plan's speed to be held against what was measured."""
        return self.facts.size_bytes >= SMALLEST

    @property
    def on_processors(self) -> bool:
        """Whether this machine's processors compute a part of the model, and not its devices alone."""
        a = self.assignment
        whole = bool(self.hardware.devices) and a.ngl > self.facts.n_layer_all
        return not whole or a.nkvo or bool(a.ncmoe or a.ncffn)

    @property
    def error(self) -> float:
        """The plan's stated error, as a share."""
        return stated_error(self.hardware)

    def prefill_s(self, tokens: int, depth: int = 0) -> float:
        return self._predict_s(decode=False, tokens=tokens, depth=depth)

    def decode_s(self, depth: int) -> float:
        """Seconds per generated token."""
        return self._predict_s(decode=True, tokens=1, depth=depth)

    def _predict_s(self, *, decode: bool, tokens: int, depth: int) -> float:
        return predict_s(
            self.facts, self.hardware, self.assignment, decode=decode, tokens=tokens, depth=depth, drafter=self.drafter
        )

    def observation(self, *, decode: bool, tokens: int, depth: int, seconds: float) -> Observation:
        return Observation(self.facts, self.assignment, decode, tokens, depth, seconds, self.drafter)


def expected_speed(stack: StackRecord) -> ExpectedSpeed | None:
    """None where the record keeps no plan."""
    plan = stack.plan
    if plan is None:
        return None
    drafter = plan.goal.draft if plan.assignment.model_guesses else None
    return ExpectedSpeed(plan.facts, plan.hardware, plan.assignment, drafter)
