"""Fits the speed model to what was measured on a machine: the rates under which its own formulas come true.

Each rate is moved as little as the measurements allow (least squares of the logarithms, damped towards the rate
that was assumed before), so a rate that no measurement depends on stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llmstack.hardware import Hardware, Measured
from llmstack.plan.assignment import Assignment
from llmstack.plan.cards import card_of
from llmstack.plan.facts import ModelFacts
from llmstack.plan.memory import Estimator
from llmstack.plan.ranges import measured_error
from llmstack.plan.speed import Speed

PRIOR = 0.05  # how stiffly a rate keeps to its old value: a measurement weighs 20 times as much
ONE_RAM = 0.3  # how stiffly experts' reading keeps to dense weights': both come from the same memory
STEPS = 25
BOUND = 1.0  # the most a rate may change in one step, as a logarithm
ASSUMED_ERROR = 0.5  # of a plan on a machine where nothing was measured
_PASS_S = 20e-6  # where the fit of the fixed time of a block starts


@dataclass(frozen=True, slots=True)
class Observation:
    """One timing: `tokens` read when `depth` were cached, or (decode) one token generated at `depth`; seconds.

    drafter: the second model that the assignment guesses with.
    """

    facts: ModelFacts
    assignment: Assignment
    decode: bool
    tokens: int
    depth: int
    seconds: float
    drafter: ModelFacts | None = None


def predict_s(
    facts: ModelFacts,
    hardware: Hardware,
    a: Assignment,
    *,
    decode: bool,
    tokens: int,
    depth: int,
    drafter: ModelFacts | None = None,
) -> float:
    """Seconds that the plan's model expects for an Observation's work."""
    speed = Speed(facts, hardware, _estimator(facts, hardware, drafter))
    return speed.token_s(a, depth) if decode else speed.prefill_s(a, tokens, depth)


def _estimator(facts: ModelFacts, hardware: Hardware, drafter: ModelFacts | None) -> Estimator:
    return Estimator(facts, hardware.devices, cpu_flags=hardware.cpu.flags, drafter=drafter)


def stated_error(hardware: Hardware) -> float:
    """The share by which a plan for this machine may miss what will be measured."""
    return measured_error(hardware) or ASSUMED_ERROR


def fit(hardware: Hardware, observations: Sequence[Observation], *, engine: str = "") -> Hardware:
    """The machine with the rates that explain the observations best, and the error that remains.

    Without observations it comes back as it is.
    """
    if not observations:
        return hardware
    names = _names(hardware, on_gpu=any(o.assignment.ngl > 0 for o in observations))
    read, expert_read = names.index((-1, "read_gbps")), names.index((-1, "expert_read_gbps"))
    start = [math.log(value) for value in _values(hardware, observations[0].facts, names)]
    models = [(o, _estimator(o.facts, hardware, o.drafter)) for o in observations]

    def residuals(point: Sequence[float]) -> list[float]:
        machine = _with(hardware, names, point)
        misses = []
        for o, estimator in models:
            speed = Speed(o.facts, machine, estimator)
            expected = (
                speed.token_s(o.assignment, o.depth) if o.decode else speed.prefill_s(o.assignment, o.tokens, o.depth)
            )
            misses.append(math.log(expected / o.seconds))
        apart = ONE_RAM * (point[expert_read] - point[read])
        return [*misses, apart, *(PRIOR * (here - there) for here, there in zip(point, start, strict=True))]

    point = least_squares(residuals, start)
    misses = sorted(abs(miss) for miss in residuals(point)[: len(observations)])
    worst = misses[min(len(misses) - 1, int(len(misses) * 0.9))]
    fitted = _with(hardware, names, point)
    assert fitted.measured is not None
    return replace(fitted, measured=replace(fitted.measured, error=round(math.expm1(worst), 3), engine=engine))


_CPU = {  # a rate of hardware.Measured: the same of plan.speed.CpuRates
    "read_gbps": "read",
    "expert_read_gbps": "expert_read",
    "cache_read_gbps": "cache_read",
    "dense_gflops": "dense",
    "expert_gflops": "expert",
    "attention_gflops": "attention",
    "value_gops": "values",
    "pass_s": "pass_s",
    "expert_pass_s": "expert_pass_s",
}
_DEVICE = ("bandwidth_gbps", "compute_tflops", "link_gbps")


def _names(hardware: Hardware, *, on_gpu: bool) -> tuple[tuple[int, str], ...]:
    """(-1, a rate of the CPU) and, where something ran on a GPU, (a device's index, a rate of it)."""
    devices = tuple((index, name) for index in range(len(hardware.devices) * on_gpu) for name in _DEVICE)
    return tuple((-1, name) for name in _CPU) + devices


def _values(hardware: Hardware, facts: ModelFacts, names: Sequence[tuple[int, str]]) -> list[float]:
    rates = Speed(facts, hardware, Estimator(facts, hardware.devices, cpu_flags=hardware.cpu.flags)).rates
    return [
        (getattr(rates, _CPU[name]) or _PASS_S) if index < 0 else getattr(card_of(hardware.devices[index]), name)
        for index, name in names
    ]


def _with(hardware: Hardware, names: Sequence[tuple[int, str]], point: Sequence[float]) -> Hardware:
    values = {key: float(f"{math.exp(value):.4g}") for key, value in zip(names, point, strict=True)}
    devices = tuple(
        replace(device, **{name: values[(index, name)] for name in _DEVICE if (index, name) in values})  # type: ignore[arg-type]
        for index, device in enumerate(hardware.devices)
    )
    cpu = {name: values[(-1, name)] for name in _CPU}
    measured = replace(hardware.measured or Measured(), **cpu)  # type: ignore[arg-type]
    return replace(hardware, devices=devices, measured=measured)


def least_squares(residuals: Callable[[Sequence[float]], list[float]], start: Sequence[float]) -> list[float]:
    """Gauss-Newton with Levenberg's damping; derivatives by small differences."""
    point, damping = list(start), 1e-3
    now = residuals(point)
    cost = sum(miss * miss for miss in now)
    for _ in range(STEPS):
        columns = []
        for index in range(len(point)):
            moved = list(point)
            moved[index] += 1e-3
            columns.append([(a - b) / 1e-3 for a, b in zip(residuals(moved), now, strict=True)])
        matrix = [[sum(x * y for x, y in zip(a, b, strict=True)) for b in columns] for a in columns]
        for index in range(len(point)):
            matrix[index][index] += damping
        step = _solve(matrix, [-sum(x * y for x, y in zip(column, now, strict=True)) for column in columns])
        tried = [value + min(max(change, -BOUND), BOUND) for value, change in zip(point, step, strict=True)]
        then = residuals(tried)
        new_cost = sum(miss * miss for miss in then)
        if new_cost >= cost:
            damping *= 10
            if damping > 1e6:
                break
            continue
        settled = cost - new_cost < 1e-7
        point, now, cost, damping = tried, then, new_cost, max(damping / 5, 1e-9)
        if settled:
            break
    return point


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gaussian elimination with pivoting; the damped matrix is never singular."""
    n = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(n):
        pivot = max(range(column, n), key=lambda r: abs(rows[r][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for below in range(column + 1, n):
            factor = rows[below][column] / rows[column][column]
            rows[below] = [b - factor * a for b, a in zip(rows[below], rows[column], strict=True)]
    answer = [0.0] * n
    for column in reversed(range(n)):
        others = sum(rows[column][k] * answer[k] for k in range(column + 1, n))
        answer[column] = (rows[column][n] - others) / rows[column][column]
    return answer
