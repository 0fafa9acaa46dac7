"""`llmstack cache`."""

from __future__ import annotations

import click

from llmstack.cli.options import json_option


@click.group(help="List or remove the saved states of the server: prompts that were computed once.")
def command() -> None:
    pass


@command.command("list", help="Show what is saved, what it is for, and whether the deployed server can use it.")
@json_option
def list_(as_json: bool) -> int:
    from llmstack.paths import home
    from llmstack.render.cache import SavedStates, show_states
    from llmstack.render.output import emit
    from llmstack.snapshots import CallLog, Store, served

    folders = home()
    store = Store(folders.slots)
    now = served(folders.stack)
    folder = str(now.folder) if now is not None else ""
    try:
        calls = CallLog(folders.slots).read()
    except OSError:
        calls = []
    emit(SavedStates(store.entries(), folder, store.budget, calls), as_json, show_states)
    return 0


@command.command("clear", help="Remove all that is saved. The next first message is computed in full.")
@json_option
def clear(as_json: bool) -> int:
    from llmstack.paths import home
    from llmstack.render.cache import show_cleared
    from llmstack.render.output import emit
    from llmstack.snapshots import Store

    number, size = Store(home().slots).clear()
    emit({"removed": number, "bytes": size}, as_json, show_cleared)
    return 0
