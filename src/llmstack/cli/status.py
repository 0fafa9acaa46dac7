"""`llmstack status`."""

from __future__ import annotations

from contextlib import suppress

import click

from llmstack.cli.options import json_option
from llmstack.commands import command_line
from llmstack.errors import BadInput


@click.command(help="Show what runs, on which model, and how warm it is. Exit status 1 unless it is ready.")
@click.option("-w", "--watch", "watched", is_flag=True, help="Keep the screen up to date until ctrl-C.")
@click.option(
    "--every", "every_s", type=click.FloatRange(0.2, 3600), default=2.0, help="Seconds between two looks (2)."
)
@json_option
def command(watched: bool, every_s: float, as_json: bool) -> int:
    from llmstack.deploy.status import StackState, gather
    from llmstack.paths import home
    from llmstack.render.output import emit
    from llmstack.render.status import show_status, watch

    folders = home()
    if watched:
        if as_json:
            raise BadInput("--watch has no end, so it cannot be one JSON object", next=command_line("status", "--json"))
        with suppress(KeyboardInterrupt):  # the way to end it, so it ended well
            watch(lambda: gather(folders), every_s)
        return 0
    status = gather(folders)
    emit(status, as_json, show_status)
    return 0 if status.state is StackState.READY else 1
