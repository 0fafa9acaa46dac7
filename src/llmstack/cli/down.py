"""`llmstack down`."""

from __future__ import annotations

import click

from llmstack.cli.options import json_option
from llmstack.commands import command_line


@click.command(
    help=f"Stop the server and the proxy. What is deployed stays known: `{command_line('up')}` starts it again."
)
@json_option
def command(as_json: bool) -> int:
    from llmstack.deploy.apply import down
    from llmstack.paths import home
    from llmstack.render.output import QUIET_S, StepProgress, emit
    from llmstack.render.stack import show_down

    with StepProgress(QUIET_S, as_json=as_json) as progress:
        was_running = down(home(), progress)
    emit({"state": "stopped", "was_running": was_running}, as_json, show_down)
    return 0
