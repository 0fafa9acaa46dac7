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
    from llmstack.render.cache import entries_json, show_entries
    from llmstack.render.output import show_json
    from llmstack.snapshots import Store, served

    place = home()
    store = Store(place.slots)
    now = served(place.stack)
    folder = str(now.folder) if now is not None else ""
    if as_json:
        show_json(entries_json(store.entries(), folder, store.budget))
    else:
        show_entries(store.entries(), folder, store.budget)
    return 0


@command.command("clear", help="Remove all saved states. The next first message is computed in full.")
@json_option
def clear(as_json: bool) -> int:
    from llmstack.paths import home
    from llmstack.render.output import show, show_json
    from llmstack.snapshots import Store

    number, size = Store(home().slots).clear()
    if as_json:
        show_json({"removed": number, "bytes": size})
    else:
        show(f"removed {number} saved states, {size / 1e6:,.1f} MB" if number else "nothing was saved")
    return 0
