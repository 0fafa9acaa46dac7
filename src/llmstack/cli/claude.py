"""`llmstack claude`."""

from __future__ import annotations

import click


@click.command(
    help="""Run Claude Code on this stack. What follows `--` goes to Claude Code; its exit status is passed on.

    A stack that is stopped is started, one that starts is waited for. `--profile NAME` leads Claude Code to another
    upstream or gateway (a [profiles.NAME] of models.toml), for which the proxy alone is started; plain `claude` is not
    touched by any of this.""",
    context_settings={"ignore_unknown_options": True},
)
@click.option("--profile", default="local", show_default=True, metavar="NAME", help="The client profile to use.")
@click.option("--no-start", is_flag=True, help="Fail when the stack is stopped, instead of starting it.")
@click.option("--without-tools", is_flag=True, help="Go on with a model that is shown no tools: it can only talk.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(profile: str, no_start: bool, without_tools: bool, arguments: tuple[str, ...]) -> int:
    import os

    from llmstack import stackfile
    from llmstack.client.claude_code import exec_claude, find_claude
    from llmstack.client.profile import environment_of, leads_to_stack, needs_local_model
    from llmstack.client.reachable import unreachable
    from llmstack.deploy.ensure_ready import ensure_ready
    from llmstack.deploy.tools_shown import refuse_blind
    from llmstack.paths import home
    from llmstack.plan.client_room import too_small
    from llmstack.render.output import StepProgress, warn

    folders = home()
    needs_stack = leads_to_stack(folders, profile)
    needs_model = needs_local_model(folders, profile)
    if needs_model or not needs_stack:
        environment_of(folders, profile, os.environ)  # what is wrong with it is said before anything is started

    def refuse_blind_model() -> None:
        stack = stackfile.read(folders)
        if stack is not None and not without_tools and needs_model:
            refuse_blind(stack)

    refuse_blind_model()  # before anything is started or looked for, and again when `up` has asked the server
    program = find_claude()
    if needs_stack:
        with StepProgress() as progress:
            ensure_ready(folders, progress, needs_model=needs_model, start=not no_start)
        refuse_blind_model()
        stack = stackfile.read(folders)
        if stack is not None and needs_model:
            room = too_small(stack.n_ctx_slot or stack.n_ctx)
            if room:
                warn(room)
    if not needs_model:
        away = unreachable(folders, profile)
        if away:
            warn(away)
    exec_claude(program, environment_of(folders, profile, os.environ), arguments)
    return 0
