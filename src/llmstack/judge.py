"""Verdicts on measurements: against the plan, against the runs before, and why something is slow. Pure.

A change is called only outside the spread: the better samples of the new run must be worse than the worse samples
of the old ones, and the medians must differ by more than TOLERANCE. All speeds together are judged too: what slows
every one of them a little shows there first. What was measured while other programs kept the processors busy is never
called a regression, nor what the machine's own pace beside it explains.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from llmstack.commands import command_line
from llmstack.sizes import mib_text

MIN_HIT_RATIO = 0.9
TOLERANCE = 0.15  # share by which medians must differ
FEW = 3  # samples, or runs before: fewer have no spread to speak of, so medians must differ by FEW_TOLERANCE
FEW_TOLERANCE = 0.3
BUSY = 0.12  # share of all processors that other programs used: from here on a sample says little
SLOW_PACE = 0.85  # of the earlier one: from here on a machine's figures say little about its rates
SMALL = {"ms": 5.0, "s": 0.005}  # differences of a time to the first token that nobody notices
BASELINE_RUNS = 5
# Why a device may be slow on WSL: Windows pages its memory out, and no switch of the driver stops it there.
SPILLS = (
    "Windows may have moved GPU memory into system RAM, which it does without a word: close what else uses the card, "
    "or plan for less"
)
WHOLE = "prefill and decode together"


class Better(enum.StrEnum):
    HIGHER = "higher"
    LOWER = "lower"


class Metric(msgspec.Struct, frozen=True):
    """One measured quantity: the median, quartiles and number of its samples.

    load: the share of all processors that other programs used meanwhile (median over the samples). pace: pieces/s
    of a fixed piece of work on every core, beside the samples (detect.pace; None: not taken).
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
    pace: float | None = None

    @property
    def spread(self) -> float:
        """The quartiles' distance as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    @property
    def busy(self) -> bool:
        return self.load > BUSY

    def at(self, pace: float) -> Metric:
        """What the same stack would have shown on this machine at `pace`; itself where its own is not known."""
        if self.pace is None:
            return self
        factor = pace / self.pace if self.better is Better.HIGHER else self.pace / pace
        return msgspec.structs.replace(
            self, median=self.median * factor, low=self.low * factor, high=self.high * factor, pace=pace
        )


class Sample(NamedTuple):
    """One value; load and pace: as a Metric's."""

    value: float
    load: float = 0.0
    pace: float | None = None


def metric(name: str, unit: str, better: Better, samples: Sequence[Sample]) -> Metric:
    """Sums up samples; those taken while others were busy count only when there are fewer than two others."""
    clean = [sample for sample in samples if sample.load <= BUSY]
    used = clean if len(clean) >= 2 else sorted(samples, key=lambda sample: sample.load)[:3]
    values = sorted(sample.value for sample in used)
    paces = [sample.pace for sample in used if sample.pace is not None]
    low, high = (values[0], values[-1]) if len(values) < 4 else (_quantile(values, 0.25), _quantile(values, 0.75))
    return Metric(
        name,
        unit,
        better,
        _short(statistics.median(values)),
        _short(low),
        _short(high),
        len(values),
        round(statistics.median(sample.load for sample in used), 3),
        tuple(_short(value) for value in values),
        _short(statistics.median(paces)) if paces else None,
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def _short(value: float) -> float:
    return float(f"{value:.5g}")


class Change(enum.StrEnum):
    SAME = "same"
    FASTER = "better"
    SLOWER = "worse"
    UNSURE = "unsure"  # it looks worse, but the machine was busy, or slow itself


@dataclass(frozen=True, slots=True)
class MetricRow:
    """gain: after / before - 1, signed so that a positive one is good. pace: the machine's own, after / before (1.0:
    not known). reason: why a change is unsure."""

    name: str
    unit: str
    before: float
    after: float
    gain: float
    change: Change
    pace: float = 1.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunComparison:
    rows: tuple[MetricRow, ...]

    @property
    def slower(self) -> tuple[MetricRow, ...]:
        return tuple(row for row in self.rows if row.change is Change.SLOWER)

    @property
    def slow_itself(self) -> frozenset[str]:
        """Names of what was measured while the machine was slow itself."""
        return frozenset(row.name for row in self.rows if row.pace < SLOW_PACE)


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """ok: nothing found. findings: one sentence each, the measured and the expected value in it. notes: no faults."""

    ok: bool
    findings: tuple[str, ...]
    notes: tuple[str, ...] = ()


def compare_runs(before: Sequence[Mapping[str, Metric]], after: Mapping[str, Metric]) -> RunComparison:
    """The new run against the last ones (latest last); of those, busy measurements are left out where possible."""
    rows = []
    for name, new in after.items():
        old = [run[name] for run in before if name in run]
        old = ([m for m in old if not m.busy] or old)[-BASELINE_RUNS:]
        if old:
            rows.append(_row(old, new))
    whole = _whole(before[-BASELINE_RUNS:], after)
    return RunComparison((whole, *rows) if whole is not None else tuple(rows))


def _whole(before: Sequence[Mapping[str, Metric]], after: Mapping[str, Metric]) -> MetricRow | None:
    """All speeds that were measured in quiet, as one: its noise is a fraction of a single one's, so that TOLERANCE is
    enough after one run, and it may be judged at the machine's pace of now. None for fewer than two speeds."""
    runs = [{name: m for name, m in run.items() if m.unit == "tokens/s" and not m.busy} for run in (*before, after)]
    names = {name for name in runs[-1] if any(name in run for run in runs[:-1])}
    olds = [{name: run[name] for name in names & run.keys()} for run in runs[:-1] if names & run.keys()]
    if len(names) < 2:
        return None
    new = {name: runs[-1][name] for name in names}
    plain, plain_olds = _together(olds, new)
    even, even_olds = _together(
        [{name: m.at(new[name].pace or m.pace or 1.0) for name, m in old.items()} for old in olds], new
    )
    pace, reason, change = plain / even, "", Change.SAME
    if even < min(1 - TOLERANCE, *even_olds) and plain < max(plain_olds) * (1 - TOLERANCE):
        change = Change.SLOWER
    elif plain < min(1 - TOLERANCE, *plain_olds):
        change, reason = Change.UNSURE, _slow_itself(pace)
    elif even > max(1 + TOLERANCE, *even_olds) and plain > min(plain_olds) * (1 + TOLERANCE):
        change = Change.FASTER
    shown = plain if change is Change.UNSURE else even
    return MetricRow(WHOLE, "of before", 1.0, _short(shown), round(shown - 1, 4), change, round(pace, 3), reason)


def _together(olds: Sequence[Mapping[str, Metric]], new: Mapping[str, Metric]) -> tuple[float, list[float]]:
    """Geometric means of the new run's speeds, and of each old one's, over the middle of the old ones."""
    middle = {name: statistics.median(old[name].median for old in olds if name in old) for name in new}

    def mean(run: Mapping[str, Metric]) -> float:
        return statistics.geometric_mean([max(m.median, 1e-9) / max(middle[name], 1e-9) for name, m in run.items()])

    return mean(new), [mean(old) for old in olds]


def _row(old: Sequence[Metric], new: Metric) -> MetricRow:
    median = statistics.median(m.median for m in old)
    paces = [m.pace for m in old if m.pace is not None]
    pace = new.pace / statistics.median(paces) if new.pace is not None and paces else 1.0
    change, reason = _change(old, new), ""
    if new.pace is not None and change is not Change.SAME and _change([m.at(new.pace) for m in old], new) is not change:
        reason = _slow_itself(pace) if change is Change.SLOWER else ""
        change = Change.UNSURE if change is Change.SLOWER else Change.SAME
    if change is Change.SLOWER and (new.busy or all(m.busy for m in old)):
        change, reason = Change.UNSURE, "other programs kept the processors busy"
    return MetricRow(new.name, new.unit, _short(median), new.median, round(_gain(median, new), 4), change, pace, reason)


def _slow_itself(pace: float) -> str:
    return f"the machine itself ran at {pace:.0%} of its earlier pace"


def _at_pace(row: MetricRow) -> str:
    return "" if row.change is Change.UNSURE or row.pace == 1.0 else ", at the machine's pace of now"


def _gain(median: float, new: Metric) -> float:
    ratio = new.median / median if median else 1.0
    if new.better is Better.HIGHER:
        return ratio - 1
    return (1 / ratio if ratio else 2.0) - 1


def _change(old: Sequence[Metric], new: Metric) -> Change:
    """Taken as they are: nothing of load or pace."""
    median = statistics.median(m.median for m in old)
    low, high = min(m.low for m in old), max(m.high for m in old)
    ratio = new.median / median if median else 1.0
    few = min(new.n, max(m.n for m in old), len(old)) < FEW
    tolerance = FEW_TOLERANCE if few else TOLERANCE
    if abs(new.median - median) < SMALL.get(new.unit, 0.0):
        return Change.SAME
    if new.better is Better.HIGHER:
        worse = new.high < low and ratio < 1 - tolerance
        better = new.low > high and ratio > 1 + tolerance
    else:
        worse = new.low > high and ratio > 1 / (1 - tolerance)
        better = new.high < low and ratio < 1 / (1 + tolerance)
    return Change.SLOWER if worse else Change.FASTER if better else Change.SAME


def verdict_on(
    measured: Mapping[str, Metric], predicted: Mapping[str, float], error: float, history: RunComparison | None = None
) -> RunVerdict:
    """Measured against planned (error: the plan's stated one, as a share), against the cache, against before."""
    findings: list[str] = []
    notes: list[str] = []
    rows = history.rows if history is not None else ()
    paces = {row.name: min(row.pace, 1.0) for row in rows}
    for name, planned in predicted.items():
        have = measured.get(name)
        if have is None or planned <= 0:
            continue
        ratio = have.median / planned if have.better is Better.HIGHER else planned / have.median
        if ratio < 1 - error:
            sentence = f"{name}: {have.median:,.4g} {have.unit}, planned {planned:,.4g} (the plan states ±{error:.0%})"
            if have.busy:
                notes.append(sentence)
            elif ratio / paces.get(name, 1.0) >= 1 - error:
                notes.append(f"{sentence}; {_slow_itself(paces[name])}")
            else:
                findings.append(sentence)
    hits = measured.get("cache hit ratio")
    if hits is not None and hits.median < MIN_HIT_RATIO:
        findings.append(f"only {hits.median:.0%} of a repeated prompt came from the cache")
    whole = any(row.name == WHOLE and row.change is Change.SLOWER for row in rows)
    for row in rows:
        sentence = f"{row.name}: {row.after:,.4g} {row.unit}, before it was {row.before:,.4g} ({row.gain:+.0%})"
        if row.name == WHOLE:
            sentence = f"{row.name}: {row.after:.0%} of before" + _at_pace(row)
        if row.change is Change.SLOWER:
            findings.append(f"slower than before: {sentence}")
        elif row.change is Change.UNSURE and not whole:
            notes.append(f"not judged, {row.reason}: {sentence}")
    busy = max((m.load for m in measured.values()), default=0.0)
    if busy > BUSY:
        notes.append(f"other programs used up to {busy:.0%} of the processors meanwhile; figures may be too low")
    return RunVerdict(not findings, tuple(findings), tuple(notes))


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What happened while a measurement ran: MiB read from disk by the server, processors used by others (share
    of all), RAM in MiB that was free, and what the plan counts on in RAM and the server holds. spills: the plan uses
    a device whose memory the system may move into RAM without a word (Windows, and so WSL)."""

    disk_mib: float = 0.0
    load: float = 0.0
    ram_free_mib: float | None = None
    ram_planned_mib: float | None = None
    ram_used_mib: float | None = None
    calibrated: bool = False
    spills: bool = False


def judge_health(
    measured: Mapping[str, float], planned: Mapping[str, float], error: float, around: Circumstances
) -> tuple[str, ...]:
    """One sentence per speed that misses its plan, with the likeliest reason; and one for memory over plan."""
    findings = []
    for name, have in measured.items():
        expected = planned.get(name)
        if expected and have < expected * (1 - error):
            findings.append(f"{name} {have:,.0f} tokens/s, planned {expected:,.0f}: {_why(around)}")
    if around.ram_planned_mib and around.ram_used_mib and around.ram_used_mib > around.ram_planned_mib * 1.1 + 256:
        findings.append(
            f"the server holds {mib_text(around.ram_used_mib)} of RAM, planned {mib_text(around.ram_planned_mib)}: "
            f"a smaller --ctx or -cram would give some back"
        )
    return tuple(findings)


def _why(around: Circumstances) -> str:
    if around.disk_mib > 64:
        missing = (around.ram_planned_mib or 0) - (around.ram_used_mib or 0) - (around.ram_free_mib or 0)
        short = f"; RAM is short by {mib_text(missing)}" if missing > 0 else ""
        return f"{mib_text(around.disk_mib)} of weights were read from disk meanwhile{short}"
    if around.load > BUSY:
        return f"other programs used {around.load:.0%} of the processors meanwhile"
    if around.spills:
        return SPILLS
    if not around.calibrated:
        return f"the plan's speed is assumed for this machine; {command_line('bench', '--calibrate')} measures it"
    return f"nothing else was in the way; {command_line('bench')} looks closer"
