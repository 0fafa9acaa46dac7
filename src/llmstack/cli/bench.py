"""`llmstack bench [MODEL]`, `bench history`, `bench compare A B`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmstack.cli.options import json_option
from llmstack.commands import command_line, quoted
from llmstack.errors import BadInput, Interrupted, NotSo

if TYPE_CHECKING:
    from llmstack.bench.record import BenchRun
    from llmstack.paths import Home
    from llmstack.render.output import StepProgress

HELP = """Measure the running stack: prefill and decode by depth, the first token cold and warm, the prompt cache,
the proxy's own cost. Kept, and compared with the plan and the runs before.

With MODEL (as `up` takes it) that model is measured: `up` starts it first where another one runs, and it stays.
`bench history` lists the runs, `bench compare A B` compares two (an id, the start of one, `last`, or `last~1`).
Exit status 1 when something is slower than before, or misses its plan by more than the plan's stated error. Ctrl-C
keeps what was measured."""


@click.command(help=HELP)
@click.argument("what", required=False, metavar="[MODEL|history|compare]")
@click.argument("runs", nargs=-1)
@click.option("--quick", "mode", flag_value="quick", help="Under a minute, two depths.")
@click.option("--full", "mode", flag_value="full", help="To the context's end, and after a restart; minutes to hours.")
@click.option(
    "--restart/--no-restart", "with_restart", default=None, help="Measure after a restart too (empties the caches)."
)
@click.option(
    "--calibrate", is_flag=True, help="First measure this machine's rates for the planner, with small models."
)
@click.option(
    "--quality", is_flag=True, help="Measure what cache types cost the model's answers, against an f16 cache; minutes."
)
@click.option(
    "--against",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="With --quality: this file of the same model instead, such as a larger quantisation.",
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with charts to FILE.")
@json_option
def command(
    what: str | None,
    runs: tuple[str, ...],
    mode: str | None,
    with_restart: bool | None,
    calibrate: bool,
    quality: bool,
    against: Path | None,
    report: Path | None,
    as_json: bool,
) -> int:
    if what == "history":
        return _history(runs, report, as_json)
    if what == "compare":
        return _compare(runs, as_json)
    if against is not None and not quality:
        raise BadInput("--against belongs to --quality", next=command_line("bench", "--quality", "--against", "FILE"))
    if quality:
        return _quality(what, against, as_json)
    if runs:
        raise BadInput("bench measures one model at a time", next=command_line("bench", "MODEL"))
    from llmstack.bench.modes import Mode
    from llmstack.bench.run import bench
    from llmstack.paths import home
    from llmstack.render.bench import bar, show_bench, show_calibration
    from llmstack.render.output import StepProgress, show_json

    folders = home()
    if report is not None:
        _check_place(report)
    with StepProgress() as progress:
        if what is not None:
            _bring_up(folders, what, progress)
        if calibrate:
            from llmstack.bench.calibrate import calibrate as measure

            calibrated = measure(folders, progress)
            progress.done()
            if not as_json:
                show_calibration(calibrated)
        run = bench(folders, lambda step: progress(bar(step)), mode=Mode(mode or "normal"), with_restart=with_restart)
    if report is not None:
        _report(report, run)
    if as_json:
        show_json(run)
    else:
        show_bench(run)
    if not run.complete:
        if as_json:  # one object on stdout; it says "complete": false
            return Interrupted.exit_status
        raise Interrupted("stopped early; what was measured is kept", next=command_line("bench", "history"))
    return 0 if run.verdict.ok else 1


def _quality(model: str | None, against: Path | None, as_json: bool) -> int:
    from llmstack.bench.quality.run import measure_quality
    from llmstack.paths import home
    from llmstack.render.output import StepProgress, show_json
    from llmstack.render.quality import show_quality

    folders = home()
    with StepProgress() as progress:
        if model is not None:
            _bring_up(folders, model, progress)
        run = measure_quality(folders, progress, against=against)
    if as_json:
        show_json(run)
    else:
        show_quality(run)
    return 0


def _bring_up(home: Home, model: str, progress: StepProgress) -> None:
    """`llmstack up MODEL`, unless that model is the one that is deployed: then its plan, pins and all, stays."""
    from llmstack import stackfile
    from llmstack.deploy.apply import up
    from llmstack.deploy.planning import UpRequest
    from llmstack.deploy.prepare import prepare
    from llmstack.fetch import locate
    from llmstack.render.output import warn

    deployed = stackfile.read(home)
    if deployed is not None and str(locate(home, model).path) == deployed.model.path:
        return
    prepared = prepare(home, UpRequest(model), progress, progress.download)
    for sentence in prepared.warnings:
        progress.done()
        warn(sentence)
    up(home, prepared.deployment, progress)


def _history(names: tuple[str, ...], report: Path | None, as_json: bool) -> int:
    from llmstack.bench.record import history
    from llmstack.paths import home
    from llmstack.render.bench import show_history
    from llmstack.render.output import show_json

    if names:
        raise BadInput("bench history takes no further argument", next=command_line("bench", "compare", "A", "B"))
    runs = history(home())
    if report is not None:
        if not runs:
            raise NotSo("nothing has been measured yet", next=command_line("bench"))
        _report(report, runs[-1])
    if as_json:
        show_json({"runs": runs})
    else:
        show_history(runs)
    return 0


def _compare(names: tuple[str, ...], as_json: bool) -> int:
    from llmstack.bench.record import changed_flags, comparable, history, named
    from llmstack.judge import compare_runs
    from llmstack.paths import home
    from llmstack.render.bench import show_comparison
    from llmstack.render.output import show_json

    if len(names) != 2:
        raise BadInput(
            "bench compare needs two runs",
            next=f"{command_line('bench', 'history')}   lists them; for example: bench compare last~1 last",
        )
    runs = history(home())
    before, after = (named(runs, name) for name in names)
    comparison = compare_runs([comparable(before, after.chunk, after.prompt_tokens)], after.metrics)
    flags = changed_flags(before, after)
    if as_json:
        show_json(
            {
                "before": before.id,
                "after": after.id,
                "changed": flags,
                "rows": comparison.rows,
                "ok": not comparison.slower,
            }
        )
    else:
        show_comparison(before, after, comparison, flags)
    return 1 if comparison.slower else 0


def _check_place(file: Path) -> None:
    """Before minutes of measuring. Raises BadInput for a place that no page can be written to."""
    folder = file.absolute().parent
    if not folder.is_dir():
        raise BadInput(f"{file} cannot be written: there is no folder {folder}", next=f"mkdir -p {quoted(str(folder))}")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise BadInput(f"{file} cannot be written: you may not write there", next="give another --report FILE")


def _report(file: Path, run: BenchRun) -> None:
    from llmstack.bench.record import history, like
    from llmstack.paths import home
    from llmstack.render.report import report_html

    page = report_html(run, (*like(history(home()), run), run))
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror}") from None
