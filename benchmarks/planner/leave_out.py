"""How far predictions are off on a machine that the constants were not fitted to: each machine left out in turn.

python -m benchmarks.planner.leave_out         the constants refitted without a machine, then its points predicted
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import fields, replace

from llmstack.plan.calibrate import least_squares
from llmstack.plan.rates import RATES, Rates
from support.planner.points import Case, cases

STIFFNESS = 0.5  # of each constant to its value: a machine's points weigh 4 times as much
SPEEDS = ("decode", "prefill")


def fitted_without(machine: str) -> Rates:
    names = [field.name for field in fields(Rates)]
    start = [math.log(getattr(RATES, name)) for name in names]

    def rates(point: Sequence[float]) -> Rates:
        return replace(RATES, **{name: math.exp(value) for name, value in zip(names, point, strict=True)})

    def residuals(point: Sequence[float]) -> list[float]:
        used = [case for case in cases(rates(point)) if case.metric in SPEEDS and case.machine != machine and case.now]
        count = {case.machine: sum(other.machine == case.machine for other in used) for case in used}
        # A far point is drawn in: one machine that lost half its speed to something unsaid must not bend the rest.
        misses = [math.asinh(3 * math.log(c.predicted / c.published)) / 3 / math.sqrt(count[c.machine]) for c in used]
        return [*misses, *(STIFFNESS * (here - there) for here, there in zip(point, start, strict=True))]

    return rates(least_squares(residuals, start))


def left_out() -> list[Case]:
    machines = sorted({case.machine for case in cases() if case.metric in SPEEDS})
    found = []
    for machine in machines:
        rates = fitted_without(machine)
        found += [case for case in cases(rates) if case.machine == machine and case.metric in SPEEDS and case.now]
    return found


def main() -> None:
    found = left_out()
    for case in found:
        print(f"| {case.number} | {case.machine} | {case.metric} | {case.value} | {case.published:g} "
              f"| {case.predicted:.4g} | {case.error:+.0%} |", flush=True)  # fmt: skip
    for metric in SPEEDS:
        misses = sorted(case.off for case in found if case.metric == metric)
        print(
            f"{metric}: {len(misses)} points, median {statistics.median(misses):.0%}, worst {misses[-1] + 1:.2f} times"
        )


if __name__ == "__main__":
    main()
