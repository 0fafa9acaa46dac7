"""`llmstack claude`."""

from __future__ import annotations

import click


@click.command(
    help="""Run Claude Code on this stack. What follows `--` goes to Claude Code; its exit status is passed on.

    A stack that is stopped is started, one that starts is waited for. `--profile NAME` leads Claude Code to another
    upstream or gateway (a [profiles.NAME] of models.toml); plain `claude` is not touched by any of this.""",
    context_settings={"ignore_unknown_options": True},
)
@click.option("--profile", default="local", show_default=True, metavar="NAME", help="The client profile to use.")
@click.option("--no-start", is_flag=True, help="Fail when the stack is stopped, instead of starting it.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(profile: str, no_start: bool, arguments: tuple[str, ...]) -> int:
    import os

    from llmstack.client.claude_code import exec_claude, find_claude
    from llmstack.client.profile import environment_of, leads_to_stack, needs_local_model
    from llmstack.deploy.ensure_ready import ensure_ready
    from llmstack.paths import home
    from llmstack.render.output import StepProgress

    folders = home()
    environment_of(folders, profile, os.environ)
    program = find_claude()
    if leads_to_stack(folders, profile):
        with StepProgress() as progress:
            needs_model = needs_local_model(folders, profile)
            ensure_ready(folders, progress, needs_model=needs_model, start=not no_start)
    exec_claude(program, environment_of(folders, profile, os.environ), arguments)
    return 0
