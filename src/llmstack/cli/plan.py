"""`llmstack plan`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmstack.cli.goal import goal_options
from llmstack.cli.options import json_option, supposed_machine, supposed_options
from llmstack.commands import command_line
from llmstack.errors import BadInput

if TYPE_CHECKING:
    from llmstack.deploy.machine_record import Machine
    from llmstack.paths import Home
    from llmstack.plan.compare import Checked


@click.command(
    help="""Say what fits, how fast it will be, and why, before anything is downloaded or started.

    MODEL is a catalog name, hf:OWNER/REPO/FILE, or a path to a GGUF (the first shard of a split one). Without MODEL the
    catalog is ranked for this machine. Exit status 1 when nothing fits."""
)
@click.argument("model", required=False)
@click.option("--hardware", "file", type=click.Path(dir_okay=False, path_type=Path), help="Plan for another machine.")
@supposed_options
@click.option("--idle", is_flag=True, help="As if the other programs that hold memory of a card were closed.")
@click.option("--explain", "flag", metavar="FLAG", help="The long answer about one flag.")
@click.option("--compare", "wants_fit", is_flag=True, help="Compare with what llama.cpp's own --fit chooses.")
@click.option("--verify", "wants_check", is_flag=True, help="Compare with what your own llama-server reports.")
@goal_options
@json_option
def command(
    model: str | None,
    file: Path | None,
    gpus: tuple[str, ...],
    vram: int | None,
    ram: int | None,
    idle: bool,
    flag: str | None,
    wants_fit: bool,
    wants_check: bool,
    as_json: bool,
    **options: Any,
) -> int:
    from llmstack.cli.goal import make_goal
    from llmstack.deploy.planning import UpRequest, plan_for
    from llmstack.paths import home
    from llmstack.plan.result import Infeasible
    from llmstack.render.output import QUIET_S, StepProgress, warn
    from llmstack.render.plan import show_explained, show_planned, show_refused

    here = home()
    with StepProgress(QUIET_S, as_json=as_json) as progress:
        machine = supposed_machine(_machine(here, file, progress), gpus, vram, ram)
    if idle:
        machine = machine.without_others()
    for sentence in machine.warnings:
        warn(sentence)
    if model is None:
        if flag or wants_fit or wants_check:
            raise BadInput("which model?", next=command_line("plan", "MODEL", "--explain", "FLAG"))
        return _rank(here, machine, as_json)
    request = UpRequest(model, goal=make_goal(**options))
    try:
        with StepProgress(QUIET_S, as_json=as_json) as progress:
            planned = plan_for(here, request, machine, progress)
    except Infeasible as error:
        show_refused(error, as_json=as_json)
        return 1
    for sentence in (*planned.warnings, *planned.plan.warnings):
        if sentence not in machine.warnings:
            warn(sentence)
    if machine.told() and planned.plan.assignment.ngl:
        warn(machine.told())
    if flag is not None:
        from llmstack.plan.explain import explain

        show_explained(explain(planned.plan, flag), as_json=as_json)
        return 0
    fit, units = None, None  # what each needs is loaded only where it is wanted: a plan is quick
    checked: tuple[Checked, ...] = ()
    if wants_fit or wants_check:
        from llmstack.deploy.cross_check import compare_with_fit, verify

        with StepProgress(QUIET_S, as_json=as_json) as progress:
            progress("asking the engine's own programs")
            fit = compare_with_fit(here, planned.plan) if wants_fit else None
            checked = verify(here, planned.plan) if wants_check else ()
    if planned.engine is not None:  # else the machine is a supposed one, and nothing is installed there
        from llmstack.deploy.prepare import changes

        units = changes(here, request, planned)
    show_planned(planned.plan, fit, checked, units, as_json=as_json)
    return 0 if all(row.ok for row in checked) else 1


def _machine(here: Home, file: Path | None, on_progress: Callable[[str], None]) -> Machine:
    """This machine, or that of a file."""
    if file is not None:
        from llmstack.deploy.machine_record import machine_of_file

        return machine_of_file(file)
    from llmstack.deploy.machine import this_machine

    on_progress("looking at this machine")
    return this_machine(here, on_progress)


def _rank(here: Home, machine: Machine, as_json: bool) -> int:
    from llmstack.deploy.known_headers import KnownHeaders
    from llmstack.fetch.find_local import read_catalog
    from llmstack.fetch.survey import recommended, survey
    from llmstack.render.output import StepProgress, warn
    from llmstack.render.plan import show_ranked

    catalog, rows, known = read_catalog(here), [], KnownHeaders(here)
    with StepProgress() as progress:
        for row in survey(catalog, machine.hardware, here.cache, known=known):
            progress(f"planned {row.name}")
            rows.append(row)
    for sentence in known.notes.values():
        warn(sentence)
    models = catalog.models
    rows.sort(key=lambda row: (not row.fits, models[row.name].order))  # as `models list` shows them
    show_ranked(rows, machine.hardware, recommended(rows, models), as_json=as_json)
    return 0 if any(row.fits for row in rows) else 1
