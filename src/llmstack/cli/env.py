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

    from llmstack.client.profile import environment_of
    from llmstack.client.shell_change import CHANGED, led, taken_back
    from llmstack.paths import home
    from llmstack.render.output import emit, show
    from llmstack.render.shell import assignments

    back = taken_back(os.environ)
    if off:
        values = {name: os.environ[source] for name, source in back.copied.items()}
        emit({"unset": back.removed, "set": values}, as_json, lambda _: show(assignments([back], shell)))
        return 0
    first = [back] if CHANGED in os.environ else []  # from one profile to another, a shell is given back in between
    inherited = back.over(os.environ) if first else os.environ
    environment = environment_of(home(), profile, inherited)
    changes = [*first, led(environment, inherited)]
    emit(dict(environment.variables), as_json, lambda _: show(assignments(changes, shell)))
    return 0
