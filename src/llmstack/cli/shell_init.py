"""`llmstack shell-init`."""

from __future__ import annotations

import click

from llmstack.cli.env import SHELLS
from llmstack.commands import command_line

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"


@click.command(
    help=f"""Print two shell functions: `cc`, the official Claude Code, and `ccq`, Claude Code on this stack.

    \b
    bash, zsh:   eval "$({command_line("shell-init", "bash")})"
    fish:        {command_line("shell-init", "fish")} | source
    PowerShell:  {command_line("shell-init", "powershell")} | Out-String | Invoke-Expression"""
)
@click.argument("shell", type=click.Choice(SHELLS[1:]))
@click.option("--profile", default="local", show_default=True, metavar="NAME", help="The profile that `ccq` uses.")
@click.option("--official", default="cc", show_default=True, metavar="NAME", help="What to call the official one.")
@click.option("--stack", default="ccq", show_default=True, metavar="NAME", help="What to call the one on this stack.")
def command(shell: str, profile: str, official: str, stack: str) -> int:
    import re

    from llmstack.catalog.profiles import profile as find_profile
    from llmstack.client.environment import CONFLICTING, OURS
    from llmstack.client.profile import files
    from llmstack.errors import BadInput
    from llmstack.paths import chosen_root, home, own_command
    from llmstack.render.output import show
    from llmstack.render.shell import Functions, functions

    for name in (official, stack):
        if not re.fullmatch(_NAME, name):
            raise BadInput(f"{name!r} can be no function's name", next="letters, digits, - and _")
    if official == stack:
        raise BadInput("both functions would have the same name", next="--official cc --stack ccq")
    find_profile(files(home()), profile)
    pair = Functions(
        official=official,
        stack=stack,
        profile=profile,
        program=own_command(),
        home=str(chosen_root() or "") or None,
        removed=tuple(name for name in OURS if name not in CONFLICTING),
    )
    show(functions(pair, shell))
    return 0
