"""`llmstack claude-settings`."""

from __future__ import annotations

from pathlib import Path

import click

from llmstack.cli.options import json_option
from llmstack.commands import command_line


@click.command(
    help="""Write this stack into a Claude Code settings file: plain `claude` then uses it.

    By default the project's own file, .claude/settings.local.json below the current folder; `--user` the one of all
    your projects. The file is merged and kept for `--undo`. The token is not written: Claude Code asks for it."""
)
@click.option("--user", is_flag=True, help="The settings of all projects (~/.claude/settings.json).")
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Another settings file.")
@click.option("--profile", default="local", show_default=True, metavar="NAME", help="The client profile to write.")
@click.option("--ttl", default=300, show_default=True, type=click.IntRange(1), help="Seconds a token is kept.")
@click.option("--undo", is_flag=True, help="Take it out again.")
@json_option
def command(user: bool, file: Path | None, profile: str, ttl: int, undo: bool, as_json: bool) -> int:
    import os

    from llmstack.client import settings
    from llmstack.client.profile import environment_of, settings_of
    from llmstack.errors import BadInput
    from llmstack.paths import home
    from llmstack.render.claude_settings import show_undone, show_written
    from llmstack.render.output import emit

    if user and file:
        raise BadInput("--user and --file are two places", next=command_line("claude-settings", "--user"))
    folder = Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")
    path = file or (folder / "settings.json" if user else Path.cwd() / ".claude" / "settings.local.json")
    folders = home()
    if undo:
        emit(settings.undo(folders, path), as_json, show_undone)
        return 0
    stack_settings = settings_of(folders, profile, environment_of(folders, profile, os.environ), ttl)
    where = ("--user",) if user else ("--file", str(file)) if file else ()
    emit(settings.apply(folders, path, stack_settings), as_json, lambda written: show_written(written, where))
    return 0
