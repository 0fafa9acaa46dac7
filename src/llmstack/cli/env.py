"""`llmstack env`."""

from __future__ import annotations

import click

from llmstack.cli.options import json_option
from llmstack.commands import command_line

SHELLS = ("sh", "bash", "zsh", "fish", "powershell")


@click.command(help=f'Print the environment that points Claude Code at this stack: eval "$({command_line("env")})".')
@click.option("--shell", type=click.Choice(SHELLS), default="sh", show_default=True)
@click.option("--profile", default="local", show_default=True, metavar="NAME", help="The client profile to use.")
@click.option("--off", is_flag=True, help="Print what takes it all back.")
@json_option
def command(shell: str, profile: str, off: bool, as_json: bool) -> int:
    import os

    from llmstack.client.environment import OURS
    from llmstack.client.profile import environment_of
    from llmstack.paths import home
    from llmstack.render.output import emit, show
    from llmstack.render.shell import assignments

    if off:
        show(assignments({}, OURS, shell))
        return 0
    environment = environment_of(home(), profile, os.environ)
    removed = tuple(name for name in environment.removed if name in os.environ)
    emit(dict(environment.variables), as_json, lambda variables: show(assignments(variables, removed, shell)))
    return 0
