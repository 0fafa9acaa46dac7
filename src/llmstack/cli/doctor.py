"""`llmstack doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from llmstack.cli.options import json_option


@click.command(
    help="Check this machine and this stack. Each finding names its cause and a remedy. Exit status 1 on a failure."
)
@click.option(
    "--hardware", "only_hardware", is_flag=True, help="Print the hardware facts as JSON, for `plan --hardware`."
)
@click.option("--deep", is_flag=True, help="Also ask the running model for a tool call.")
@click.option(
    "--bundle", type=click.Path(dir_okay=False, path_type=Path), help="Write a redacted report for a bug report."
)
@click.option("-a", "--all", "show_all", is_flag=True, help="Show the checks that passed as well.")
@json_option
def command(only_hardware: bool, deep: bool, bundle: Path | None, show_all: bool, as_json: bool) -> int:
    from llmstack.render.output import emit, show_json

    if only_hardware:
        from llmstack.doctor.gather_machine import hardware
        from llmstack.paths import home

        show_json(hardware(home())[0].to_json())
        return 0
    from llmstack.doctor.gather import gather
    from llmstack.doctor.run import diagnose
    from llmstack.paths import home
    from llmstack.render.doctor import Examined, show_examined
    from llmstack.render.output import QUIET_S, StepProgress

    folders = home()
    with StepProgress(QUIET_S, as_json=as_json) as progress:
        facts = gather(folders, deep=deep, on_progress=progress)
    report = diagnose(facts)
    written: tuple[str, ...] = ()
    if bundle is not None:
        from llmstack.doctor.bundle import write

        written = write(folders, facts, report, bundle)
    examined = Examined(report, bundle, written)
    emit(examined, as_json, lambda result: show_examined(result, show_all=show_all))
    return 0 if report.ok else 1
