"""Verdicts on measurements: against the plan, against the runs before, and why something is slow. Pure.

A change is called only outside the spread: the better samples of the new run must be worse than the worse samples
of the old ones, and the medians must differ by more than TOLERANCE. What was measured while other programs kept
the processors busy is never called a regression.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

MIN_HIT_RATIO = 0.9
TOLERANCE = 0.15  # share by which medians must differ
FEW = 3  # samples, or runs before: fewer have no spread to speak of, so medians must differ by FEW_TOLERANCE
FEW_TOLERANCE = 0.3
BUSY = 0.12  # share of all processors that other programs used: from here on a sample says little
SMALL = {"ms": 5.0, "s": 0.005}  # differences of a time to the first token that nobody notices
BASELINE_RUNS = 5


class Better(enum.StrEnum):
    HIGHER = "higher"
    LOWER = "lower"


class Metric(msgspec.Struct, frozen=True):
    """One measured quantity: the median, quartiles and number of its samples.

    load: the share of all processors that other programs used meanwhile (median over the samples).
    """

    name: str
    unit: str
    better: Better
    median: float
    low: float
    high: float
    n: int
    load: float = 0.0
    values: tuple[float, ...] = ()

    @property
    def spread(self) -> float:
        """The quartiles' distance as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    @property
    def busy(self) -> bool:
        return self.load > BUSY


def metric(name: str, unit: str, better: Better, values: Sequence[float], loads: Sequence[float] = ()) -> Metric:
    """Sums up samples; those taken while others were busy count only when there are fewer than two others."""
    pairs = list(zip(values, loads or [0.0] * len(values), strict=True))
    clean = [pair for pair in pairs if pair[1] <= BUSY]
    used = clean if len(clean) >= 2 else sorted(pairs, key=lambda pair: pair[1])[:3]
    kept = sorted(value for value, _ in used)
    low, high = (kept[0], kept[-1]) if len(kept) < 4 else (_quantile(kept, 0.25), _quantile(kept, 0.75))
    return Metric(
        name,
        unit,
        better,
        _short(statistics.median(kept)),
        _short(low),
        _short(high),
        len(kept),
        round(statistics.median(load for _, load in used), 3),
        tuple(_short(value) for value in kept),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _short(value: float) -> float:
    return float(f"{value:.5g}")


class Change(enum.StrEnum):
    SAME = "same"
    FASTER = "better"
    SLOWER = "worse"
    UNSURE = "unsure"  # it looks worse, but the machine was busy


@dataclass(frozen=True, slots=True)
class Row:
    """change: after / before - 1, signed so that a positive one is good."""

    name: str
    unit: str
    before: float
    after: float
    gain: float
    change: Change


@dataclass(frozen=True, slots=True)
class Comparison:
    rows: tuple[Row, ...]

    @property
    def slower(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.change is Change.SLOWER)


@dataclass(frozen=True, slots=True)
class Verdict:
    """ok: nothing found. findings: one sentence each, the measured and the expected value in it. notes: no faults."""

    ok: bool
    findings: tuple[str, ...]
    notes: tuple[str, ...] = ()


def compare(before: Sequence[Mapping[str, Metric]], after: Mapping[str, Metric]) -> Comparison:
    """The new run against the last ones (latest last); of those, busy measurements are left out where possible."""
    rows = []
    for name, new in after.items():
        old = [run[name] for run in before if name in run]
        old = ([m for m in old if not m.busy] or old)[-BASELINE_RUNS:]
        if old:
            rows.append(_row(old, new))
    return Comparison(tuple(rows))


def _row(old: Sequence[Metric], new: Metric) -> Row:
    median = statistics.median(m.median for m in old)
    low, high = min(m.low for m in old), max(m.high for m in old)
    ratio = new.median / median if median else 1.0
    few = min(new.n, max(m.n for m in old), len(old)) < FEW
    tolerance = FEW_TOLERANCE if few else TOLERANCE
    if new.better is Better.HIGHER:
        gain = ratio - 1
        worse = new.high < low and ratio < 1 - tolerance
        better = new.low > high and ratio > 1 + tolerance
    else:
        gain = (1 / ratio if ratio else 2.0) - 1
        worse = new.low > high and ratio > 1 / (1 - tolerance)
        better = new.high < low and ratio < 1 / (1 + tolerance)
    if abs(new.median - median) < SMALL.get(new.unit, 0.0):
        worse = better = False
    change = Change.SLOWER if worse else Change.FASTER if better else Change.SAME
    if worse and (new.busy or all(m.busy for m in old)):
        change = Change.UNSURE
    return Row(new.name, new.unit, _short(median), new.median, round(gain, 4), change)


def judge(
    measured: Mapping[str, Metric], predicted: Mapping[str, float], error: float, history: Comparison | None = None
) -> Verdict:
    """Measured against planned (error: the plan's stated one, as a share), against the cache, against before."""
    findings: list[str] = []
    notes: list[str] = []
    for name, planned in predicted.items():
        have = measured.get(name)
        if have is None or planned <= 0:
            continue
        ratio = have.median / planned if have.better is Better.HIGHER else planned / have.median
        if ratio < 1 - error:
            sentence = f"{name}: {have.median:,.4g} {have.unit}, planned {planned:,.4g} (the plan states ±{error:.0%})"
            (notes if have.busy else findings).append(sentence)
    hits = measured.get("cache hit ratio")
    if hits is not None and hits.median < MIN_HIT_RATIO:
        findings.append(f"only {hits.median:.0%} of a repeated prompt came from the cache")
    for row in history.rows if history is not None else ():
        sentence = f"{row.name}: {row.after:,.4g} {row.unit}, before it was {row.before:,.4g} ({row.gain:+.0%})"
        if row.change is Change.SLOWER:
            findings.append(f"slower than before: {sentence}")
        elif row.change is Change.UNSURE:
            notes.append(f"not judged, other programs kept the processors busy: {sentence}")
    busy = max((m.load for m in measured.values()), default=0.0)
    if busy > BUSY:
        notes.append(f"other programs used up to {busy:.0%} of the processors meanwhile; figures may be too low")
    return Verdict(not findings, tuple(findings), tuple(notes))


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What happened while a measurement ran: MiB read from disk by the server, processors used by others (share
    of all), RAM in MiB that was free, and what the plan counts on in RAM and the server holds."""

    disk_mib: float = 0.0
    load: float = 0.0
    ram_free_mib: float | None = None
    ram_planned_mib: float | None = None
    ram_used_mib: float | None = None
    calibrated: bool = False


def judge_health(
    measured: Mapping[str, float], planned: Mapping[str, float], error: float, around: Circumstances
) -> tuple[str, ...]:
    """One sentence per speed that misses its plan, with the likeliest reason; and one for memory over plan."""
    found = []
    for name, have in measured.items():
        expected = planned.get(name)
        if expected and have < expected * (1 - error):
            found.append(f"{name} {have:,.0f} tokens/s, planned {expected:,.0f}: {_why(around)}")
    if around.ram_planned_mib and around.ram_used_mib and around.ram_used_mib > around.ram_planned_mib * 1.1 + 256:
        found.append(
            f"the server holds {_gib(around.ram_used_mib)} of RAM, planned {_gib(around.ram_planned_mib)}: "
            f"a smaller --ctx or -cram would give some back"
        )
    return tuple(found)


def _why(around: Circumstances) -> str:
    if around.disk_mib > 64:
        missing = (around.ram_planned_mib or 0) - (around.ram_used_mib or 0) - (around.ram_free_mib or 0)
        short = f"; RAM is short by {_gib(missing)}" if missing > 0 else ""
        return f"{_gib(around.disk_mib)} of weights were read from disk meanwhile{short}"
    if around.load > BUSY:
        return f"other programs used {around.load:.0%} of the processors meanwhile"
    if not around.calibrated:
        return "the plan's speed is assumed for this machine; llmstack bench --calibrate measures it"
    return "nothing else was in the way; llmstack bench looks closer"


def _gib(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1000 else f"{mib:.0f} MiB"
