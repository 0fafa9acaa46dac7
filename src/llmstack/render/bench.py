"""The bench on the terminal: figures beside the plan's, small charts, history and comparison."""

from __future__ import annotations

import time
from collections.abc import Sequence

from llmstack.bench.calibrate import Calibrated
from llmstack.bench.record import BenchRun
from llmstack.bench.session import Step
from llmstack.commands import command_line
from llmstack.judge import Change, Metric, RunComparison
from llmstack.render.output import show, style

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 20
_SHORT = {"tokens/s": "tok/s", "of the prompt": "", "of before": "×"}
_COLOURS = {Change.SLOWER: "red", Change.FASTER: "green", Change.UNSURE: "yellow", Change.SAME: "white"}


def bar(step: Step) -> str:
    """What is done and how long the rest takes, as one line of progress."""
    full = round(step.share * _WIDTH)
    return f"[{'#' * full}{'-' * (_WIDTH - full)}] {step.share:>4.0%}  about {_time(step.left_s)} left  {step.label}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def show_bench(run: BenchRun) -> None:
    show(f"{style(run.model, 'cyan')} on {run.engine}, {run.mode} run {run.id}, {run.seconds:.0f} s")
    show(f"  {'':<28}{'measured':>12} {'±':>4}   {'planned':>9}")
    top = {
        kind: max((m.median for name, m in run.metrics.items() if name.startswith(kind)), default=0.0)
        for kind in ("prefill at", "decode at")
    }
    for name, metric in run.metrics.items():
        kind = next((k for k in top if name.startswith(k)), "")
        show(_line(metric, run.expected.get(name), metric.median / top[kind] if kind and top[kind] else None))
    for memory in run.memory:
        planned = memory.weights_mib + memory.context_mib + memory.compute_mib + memory.other_mib
        have = "-" if memory.measured_mib is None else f"{memory.measured_mib:,.0f}"
        show(f"  {'memory, ' + memory.name:<28}{have + ' MiB':>12} {'':>4}   {planned:>9,.0f}")
    show(f"  a new conversation of {run.prompt_tokens:,} tokens; the plan states ±{run.error:.0%}")
    for note in run.verdict.notes:
        show(f"  {note}")
    for finding in run.verdict.findings:
        show(f"  {style('!', 'yellow')} {finding}")
    if run.verdict.ok:
        show(f"  {style('good', 'green')}" if not run.verdict.notes else "  no fault found, with the remarks above")


def _line(metric: Metric, planned: float | None, share: float | None) -> str:
    unit = _SHORT.get(metric.unit, metric.unit)
    value = f"{metric.median:.1%}" if metric.name == "cache hit ratio" else f"{_number(metric.median)} {unit}"
    beside = _number(planned) if planned is not None else ""
    bar = "" if share is None else "  " + _block(share)
    spread = f"{metric.spread / 2:.0%}" if metric.n > 1 else ""
    return f"  {metric.name:<28}{value:>12} {spread:>4}   {beside:>9}{bar}".rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _block(share: float) -> str:
    return "█" * max(1, round(share * 16))


def show_calibration(calibrated: Calibrated) -> None:
    show("measured on this machine, for the planner:")
    for label, value, unit in calibrated.lines:
        show(f"  {label:<36}{value:>10,.4g} {unit}")
    show(f"  the speed model meets these {calibrated.timings} timings within {calibrated.error:.0%}")


def show_history(runs: Sequence[BenchRun]) -> None:
    if not runs:
        show(f"nothing has been measured yet: {command_line('bench')}")
        return
    show(f"{'run':<14} {'when':<17} {'model':<20} {'prefill':>9} {'decode':>8} {'cold':>8} {'warm':>8}  verdict")
    for run in runs:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.at))
        verdict = "good" if run.verdict.ok else f"{len(run.verdict.findings)} findings"
        figures = (_cell(run.prefill_tps), _cell(run.decode_tps), _cell(run.ttft_cold_s), _cell(run.ttft_warm_s))
        early = "" if run.complete else ", stopped early"
        show(
            f"{run.id:<14} {when:<17} {run.model[:20]:<20} {figures[0]:>9} {figures[1]:>8} {figures[2]:>8} "
            f"{figures[3]:>8}  {verdict}{early}"
        )
    for model in dict.fromkeys(run.model for run in runs):
        speeds = [run.prefill_tps for run in runs if run.model == model and run.prefill_tps]
        if len(speeds) > 1:
            show(f"prefill of {model}: {spark(speeds)}")


def _cell(value: float | None) -> str:
    return "-" if value is None else _number(value)


def spark(values: Sequence[float]) -> str:
    """One character a value, from zero to the largest."""
    top = max(values) or 1.0
    return "".join(_BARS[min(int(value / top * len(_BARS)), len(_BARS) - 1)] for value in values[-60:])


def show_comparison(before: BenchRun, after: BenchRun, comparison: RunComparison, flags: Sequence[str]) -> None:
    show(f"{before.id} ({before.model}) → {after.id} ({after.model})")
    for change in flags:
        show(f"  changed: {change}")
    show(f"  {'':<28}{'before':>11} {'after':>11}")
    for row in comparison.rows:
        unit = _SHORT.get(row.unit, row.unit)
        word = "" if row.change is Change.SAME else style(row.change.value, _COLOURS[row.change])
        word += f", {row.reason}" if row.reason else ""
        gain = f"{row.gain:+.0%}"
        show(f"  {row.name:<28}{_number(row.before):>11} {_number(row.after):>11} {unit:<6} {gain:>6}  {word}".rstrip())
    if not comparison.rows:
        show("  nothing was measured in both")
    else:
        show("  no regression" if not comparison.slower else f"  {len(comparison.slower)} slower, outside the spread")
