"""`llmstack cache`."""

from __future__ import annotations

import click

from llmstack.cli.group import CommandGroup
from llmstack.cli.options import json_option


@click.group(cls=CommandGroup, help="List or remove the saved states of the server: prompts that were computed once.")
def command() -> None:
    pass


@command.command("list", help="Show what is saved, what it is for, and whether the deployed server can use it.")
@json_option
def list_(as_json: bool) -> int:
    from llmstack import stackfile
    from llmstack.paths import home
    from llmstack.render.cache import SavedStates, show_states
    from llmstack.render.output import emit
    from llmstack.warmstart.store import Store
    from llmstack.warmstart.toolcalls import ToolCallStore

    folders = home()
    store = Store(folders.slots)
    record = stackfile.read(folders)
    folder = str(record.running_server().states_folder) if record is not None else ""
    try:
        calls = ToolCallStore(folders.slots).read()
    except OSError:
        calls = []
    emit(SavedStates(store.states(), folder, store.budget, calls), as_json, show_states)
    return 0


@command.command("clear", help="Remove all that is saved. The next first message is computed in full.")
@json_option
def clear(as_json: bool) -> int:
    from llmstack.paths import home
    from llmstack.render.cache import show_cleared
    from llmstack.render.output import emit
    from llmstack.warmstart.store import Store
    from llmstack.warmstart.toolcalls import ToolCallStore

    slots = home().slots
    number, size = Store(slots).clear()
    size += ToolCallStore(slots).clear()
    emit({"removed": number, "bytes": size}, as_json, show_cleared)
    return 0
