"""What the deployed plan expects of a piece of work, at exactly its size and depth."""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.deploy.record import Stack
from llmstack.detect.model_file import open_model
from llmstack.errors import StackError
from llmstack.hardware import Hardware, from_json
from llmstack.plan import Facts, read_facts
from llmstack.plan.assignment import Assignment
from llmstack.plan.calibrate import Observation, predict_s, stated_error
from llmstack.plan.readback import assignment_of

SMALLEST = 16 << 20  # bytes: below it fixed costs rule, which the speed model leaves out; nothing is judged by it


@dataclass(frozen=True, slots=True)
class Expected:
    facts: Facts
    hardware: Hardware
    assignment: Assignment
    drafter: Facts | None = None  # the second model that guesses ahead

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


def expected(stack: Stack) -> Expected | None:
    """None where the record or the model file no longer allows a prediction."""
    import msgspec

    try:
        model = open_model(stack.model.path)
        hardware = from_json(msgspec.json.encode(stack.plan["hardware"]))
        argv = list(stack.plan.get("argv", ()))
        assignment = assignment_of(argv, has_gpu=bool(hardware.devices))
        drafter = None
        if assignment.model_guesses:
            path = argv[argv.index("-md") + 1]
            drafter = read_facts(open_model(path).header, path=path)
        return Expected(read_facts(model.header, path=stack.model.path), hardware, assignment, drafter)
    except (StackError, KeyError, ValueError, OSError):
        return None
