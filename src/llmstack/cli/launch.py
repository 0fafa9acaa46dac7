"""`llmstack launch`."""

from __future__ import annotations

import click

from llmstack.cli.options import json_option
from llmstack.commands import command_line


@click.command(
    help="""Run another agent on this stack: Codex, OpenCode, Qwen Code and others. Without a name: which there are.

    What follows `--` goes to the agent; its exit status is passed on. It is pointed here by its environment or by a
    file of llmstack's own; none of yours is touched. A stack that is stopped is started. With `--write` nothing is
    started: the agent's own settings then lead here, until `--undo`.""",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("agent", required=False)
@click.option("--profile", default="local", show_default=True, metavar="NAME", help="Which model answers.")
@click.option("--no-start", is_flag=True, help="Fail when the stack is stopped, instead of starting it.")
@click.option("--dry-run", is_flag=True, help="Show how it would be started, without the token.")
@click.option("--write", is_flag=True, help="Make it lasting, in the agent's own settings.")
@click.option("--undo", is_flag=True, help="Take that out again.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@json_option
def command(
    agent: str | None,
    profile: str,
    no_start: bool,
    dry_run: bool,
    write: bool,
    undo: bool,
    arguments: tuple[str, ...],
    as_json: bool,
) -> int:
    import os

    from llmstack.errors import BadInput
    from llmstack.launch import written
    from llmstack.launch.start import agent_of, become, facts_of, find_program, known, lasting_files
    from llmstack.render.launch import show_agents, show_lasting, show_start, show_taken_out
    from llmstack.render.output import StepProgress, emit

    if agent is None:
        if write or undo:
            raise BadInput("--write and --undo want to know which agent", next=command_line("launch"))
        emit({"agents": [one.to_json() for one in known()]}, as_json, show_agents)
        return 0

    from llmstack.client.profile import environment_of, needs_local_model
    from llmstack.deploy.ensure_ready import ensure_ready
    from llmstack.paths import home

    folders, chosen = home(), agent_of(agent)
    if undo:
        emit({"undone": [one.to_json() for one in written.undo(folders, agent)]}, as_json, show_taken_out)
        return 0
    if write:
        facts = facts_of(folders, agent, environment_of(folders, profile, os.environ))
        files = written.write(folders, agent, lasting_files(folders, agent, facts, os.environ))
        document = {"agent": agent, "written": [one.to_json() for one in files]}
        emit(document, as_json, show_lasting)
        return 0
    program = "" if dry_run else find_program(chosen)
    if not dry_run:
        with StepProgress() as progress:
            ensure_ready(folders, progress, needs_model=needs_local_model(folders, profile), start=not no_start)
    facts = facts_of(folders, agent, environment_of(folders, profile, os.environ))
    if dry_run:
        pointed = chosen.point(facts)
        show_start(chosen.program, [*pointed.arguments, *arguments], pointed.variables, pointed.files, facts.token)
        return 0
    become(program, chosen, facts, arguments)
    return 0
