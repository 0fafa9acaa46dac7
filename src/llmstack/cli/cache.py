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
    from llmstack import stackfile
    from llmstack.paths import home
    from llmstack.render.cache import show_states, states_json
    from llmstack.render.output import show_json
    from llmstack.warmstart.store import Store
    from llmstack.warmstart.toolcalls import ToolCallStore

    where = home()
    store = Store(where.slots)
    record = stackfile.read(where)
    folder = str(record.running_server().states_folder) if record is not None else ""
    try:
        calls = ToolCallStore(where.slots).read()
    except OSError:
        calls = []
    if as_json:
        show_json(states_json(store.states(), folder, store.budget, calls))
    else:
        show_states(store.states(), folder, store.budget, calls)
    return 0


@command.command("clear", help="Remove all that is saved. The next first message is computed in full.")
@json_option
def clear(as_json: bool) -> int:
    from llmstack.paths import home
    from llmstack.render.cache import cleared_json, show_cleared
    from llmstack.render.output import show_json
    from llmstack.warmstart.store import Store
    from llmstack.warmstart.toolcalls import ToolCallStore

    where = home()
    number, size = Store(where.slots).clear()
    size += ToolCallStore(where.slots).clear()
    if as_json:
        show_json(cleared_json(number, size))
    else:
        show_cleared(number, size)
    return 0
