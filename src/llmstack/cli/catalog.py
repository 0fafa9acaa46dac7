"""`llmstack catalog`: refresh, show, back."""

from __future__ import annotations

import click

from llmstack.cli.group import CommandGroup
from llmstack.cli.options import json_option
from llmstack.commands import command_line


@click.group(cls=CommandGroup, help="Fetch a newer list of known models, and go back.")
def command() -> None:
    pass


@command.command("refresh")
@click.option("--from", "source", metavar="URL|PATH", help="Where it is; else `url` in [catalog] of your models.toml.")
@click.option("--sha256", metavar="HEX", help="What it must be; else what URL.sha256 says.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and take nothing.")
@click.option("--allow-older", is_flag=True, help="Take one that is older than what is here.")
@json_option
def refresh_command(source: str | None, sha256: str | None, dry_run: bool, allow_older: bool, as_json: bool) -> int:
    """Fetch a catalog, check it by its digest, and show what it changes.

    Only models are taken from it, each entry where it was looked up later than the one that is here; your own
    models.toml stays over all of them. The catalog before it is kept.
    """
    from llmstack.catalog.routes import without_password
    from llmstack.errors import BadInput
    from llmstack.fetch.catalog_source import configured, refresh
    from llmstack.paths import home
    from llmstack.render.catalog import show_refreshed
    from llmstack.render.output import QUIET_S, StepProgress, show_json

    folders = home().make()
    table = configured(folders)
    address = source or table.get("url")
    if not address:
        raise BadInput(
            "no catalog is configured, and none is by default",
            why="whoever writes it says which files are downloaded under a model's name",
            next=f'[catalog] with url = "https://…" in {folders.catalog}, or '
            + command_line("catalog", "refresh", "--from", "URL"),
        )
    pinned = sha256 or ("" if source else table.get("sha256", ""))
    with StepProgress(QUIET_S, as_json=as_json) as progress:
        progress(f"fetching {without_password(str(address))}")
        seen = refresh(folders, address, pinned, only_show=dry_run, older=allow_older)
    if as_json:
        show_json({"catalog": seen.taken, "new": seen.is_new, "taken": seen.is_new and not dry_run,
                   "changes": seen.changes})  # fmt: skip
    else:
        show_refreshed(seen, only_show=dry_run)
    return 0


@command.command("show", help="Say which catalog is in use, and which came before it.")
@json_option
def show_command(as_json: bool) -> int:
    from llmstack.fetch.catalog_in_use import state
    from llmstack.paths import home
    from llmstack.render.catalog import show_state
    from llmstack.render.output import show_json

    now = state(home())
    if as_json:
        show_json(now)
    else:
        show_state(now)
    return 0


@command.command("back", help="Go back to the catalog before the one in use; at last to the shipped one.")
@json_option
def back_command(as_json: bool) -> int:
    from llmstack.fetch.catalog_source import go_back
    from llmstack.paths import home
    from llmstack.render.catalog import show_back
    from llmstack.render.output import show_json

    now, changes = go_back(home())
    if as_json:
        show_json({"catalog": now.current, "changes": changes})
    else:
        show_back(now, changes)
    return 0
