"""`llmstack uninstall`."""

from __future__ import annotations

import click

from llmstack.cli.options import json_option, yes_option
from llmstack.commands import command_line


@click.command(help="Stop the stack and remove its units, settings, state, cache, token and models.")
@click.option("--keep-models", is_flag=True, help="Leave downloaded models where they are.")
@yes_option
@json_option
def command(keep_models: bool, yes: bool, as_json: bool) -> int:
    from dataclasses import replace

    from llmstack.client.outside import remains
    from llmstack.client.settings import undo_every, written_files
    from llmstack.deploy.uninstall import uninstall
    from llmstack.errors import BadInput
    from llmstack.launch.written import files_written, undo_all
    from llmstack.paths import home
    from llmstack.render.output import QUIET_S, StepProgress, emit, show
    from llmstack.render.uninstall import ask, show_removed

    folders = home()
    if not yes:
        if as_json:
            raise BadInput("uninstall removes things for good", next=command_line("uninstall", "--yes", "--json"))
        if not ask(folders, (*written_files(folders), *files_written(folders)), keep_models=keep_models):
            show("nothing was removed")
            return 1
    left = remains(folders)  # read while there is a record of it
    with StepProgress(QUIET_S, as_json=as_json) as progress:
        progress("stopping the stack, and removing its files")
        removed = uninstall(
            folders,
            keep_models=keep_models,
            take_out=lambda: [undone.path for undone in (*undo_every(folders), *undo_all(folders))],
        )
    removed = replace(removed, kept=(*removed.kept, *left))
    emit(removed, as_json, show_removed)
    return 0
