"""What `tune` found, on the terminal and as JSON."""

from __future__ import annotations

from typing import Any

from llmstack.bench.tune import Result, Trial
from llmstack.llama_server.flags import TUNABLE
from llmstack.render.output import show, style


def show_tuned(result: Result) -> None:
    show(f"{len(result.trials)} candidates measured in {result.seconds:.0f} s, for a fast {result.aim.value}")
    show(f"  {'':<12}{'prefill':>10} {'decode':>10}   tokens/s")
    show(_line("as deployed", result.start))
    if not result.changed:
        show("  nothing measured was faster by 3 % or more: the plan's flags stay")
        return
    show(_line("best", result.best))
    flags = " ".join(f"{flag} {value}" for flag, value in result.changed.items())
    sure = "measured again in turns" if result.complete else "not measured again: stopped early"
    show(f"  {style(flags, 'green')}: {result.gain:.0%} less time, {sure}")


def _line(label: str, trial: Trial) -> str:
    return f"  {label:<12}{trial.prefill_tps:>10,.0f} {trial.decode_tps:>10,.1f}"


def tuned_json(result: Result, *, applied: bool) -> dict[str, Any]:
    return {
        "aim": result.aim.value,
        "changed": result.changed,
        "gain": round(result.gain, 4),
        "applied": applied,
        "complete": result.complete,
        "seconds": round(result.seconds, 1),
        "start": _trial(result.start),
        "best": _trial(result.best),
        "trials": [_trial(trial) for trial in result.trials],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "flags": {flag.name: getattr(trial.assignment, flag.field) for flag in TUNABLE},
        "prefill_tps": round(trial.prefill_tps, 2),
        "decode_tps": round(trial.decode_tps, 2),
        "seconds": round(trial.seconds, 2),
    }
