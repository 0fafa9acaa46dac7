"""`bench --quality` on the terminal."""

from __future__ import annotations

from llmstack.bench.quality.intervals import Interval
from llmstack.bench.quality.record import KindQuality, QualityRun
from llmstack.render.output import show, style


def show_quality(run: QualityRun) -> None:
    depths = ", ".join(f"{depth:,}" for depth in run.depths)
    what = f"against {run.reference}, {run.places} next tokens each at depths of {depths}"
    show(f"{style(run.model, 'cyan')} on {run.engine}: {what}")
    show("")
    width = max(len(row.kind) for row in run.kinds)
    show(f"  {'':<{width}}  {'KL (95 % interval)':<28}{'same first choice':<26}tool calls right")
    for row in run.kinds:
        figures = f"{_plain(row.kl, 4):<28}{_percent(row.same):<26}{_percent(row.tasks['all'])}"
        show(f"  {row.kind:<{width}}  {figures}")
    for row in run.kinds[1:]:
        show("")
        show(f"  {row.kind}")
        for depth in run.depths:
            at = f"at {depth:,} tokens"
            show(f"    {at:<18}{_plain(row.kl_at[depth], 4):<28}{_percent(row.same_at[depth])}")
        for name, share in row.tasks.items():
            if name != "all":
                show(f"    {name:<18}{_percent(share):<28}{run.reference}: {_percent(run.kinds[0].tasks[name])}")
    show("")
    show(verdict(run))
    show(f"{run.seconds:.0f} s; kept: plans of this model know it from now on")


def verdict(run: QualityRun) -> str:
    """What the intervals tell apart, in words."""
    reference, *others = run.kinds
    lost = [row.kind for row in others if _worse_at_tools(reference, row)]
    if lost:
        return f"tool calls come out worse with {' and '.join(lost)} than with {reference.kind}, outside the intervals"
    if len(others) < 2:
        return "the tool calls of both are not told apart"
    ordered = sorted(others, key=lambda row: row.kl.value)
    nearest, farthest = ordered[0], ordered[-1]
    apart = "are told apart" if nearest.kl.apart_from(farthest.kl) else "are not told apart"
    return f"{nearest.kind} and {farthest.kind} {apart}: {nearest.kind} is nearer to {reference.kind}"


def _worse_at_tools(reference: KindQuality, other: KindQuality) -> bool:
    return other.tasks["all"].high < reference.tasks["all"].low


def _plain(interval: Interval, digits: int) -> str:
    return f"{interval.value:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} ({interval.low:.0%} to {interval.high:.0%})"
