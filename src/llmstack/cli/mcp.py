"""`llmstack mcp`."""

from __future__ import annotations

from pathlib import Path

import click

from llmstack.commands import command_line


@click.command(
    help=f"""Offer this stack's model to another agent as a tool, by the Model Context Protocol on stdin and stdout.

    An agent starts it; {command_line("mcp")}, typed by itself, says how. Files that a question names are read below
    the folder it is started in. A stack that is stopped is started with the first question."""
)
@click.option("--profile", default="local", show_default=True, metavar="NAME", help="Which model answers.")
@click.option("--no-start", is_flag=True, help="Refuse while the stack is stopped, instead of starting it.")
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".", metavar="FOLDER",
    help="Read files below this folder.",
)  # fmt: skip
def command(profile: str, no_start: bool, root: Path) -> int:
    import os
    import shlex
    import sys

    from llmstack.client.profile import environment_of, needs_local_model
    from llmstack.deploy.ensure_ready import ensure_ready
    from llmstack.errors import BadInput, MissingPart
    from llmstack.launch.agents import PointFacts
    from llmstack.launch.start import facts_of
    from llmstack.paths import chosen_root, home, own_command
    from llmstack.render.output import StepProgress

    if sys.stdin.isatty():
        own = shlex.join([*(["env", f"LLMSTACK_HOME={chosen_root()}"] if chosen_root() else []), *own_command(), "mcp"])
        raise BadInput("an agent starts this, and speaks to it on stdin", next=f"claude mcp add llmstack -- {own}")
    try:
        from llmstack.delegate.mcp_server import serve
    except ModuleNotFoundError as error:
        raise MissingPart(
            f"the MCP SDK is not installed: there is no {error.name}", next=f"{sys.executable} -m pip install mcp"
        ) from None
    folders = home()

    def facts() -> PointFacts:
        with StepProgress() as progress:
            ensure_ready(folders, progress, needs_model=needs_local_model(folders, profile), start=not no_start)
        return facts_of(folders, "mcp", environment_of(folders, profile, os.environ))

    serve(facts, root)
    return 0
