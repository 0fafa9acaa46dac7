"""`llmstack key`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from llmstack.cli.group import CommandGroup
from llmstack.cli.options import json_option, yes_option
from llmstack.commands import command_line

if TYPE_CHECKING:
    from llmstack.deploy.client_keys import NewKey


@click.group(
    cls=CommandGroup,
    help="""Keys for others: each has its own, with limits of its own, and can be taken back.

    The token of this stack (`token`) stays its owner's.""",
)
def command() -> None:
    pass


def _shown(made: NewKey, as_json: bool) -> int:
    from functools import partial

    from llmstack.client.profile import environment_for_key
    from llmstack.paths import home
    from llmstack.render.key import show_new
    from llmstack.render.output import emit

    emit(made, as_json, partial(show_new, variables=environment_for_key(home(), made.key)))
    return 0


models_option = click.option(
    "--models", multiple=True, metavar="GLOB", help="Only these names of models, such as 'qwen*'; again for more."
)
tokens_option = click.option(
    "--tokens-per-day", type=click.IntRange(1, 10**15), metavar="N",
    help="Computed tokens a day (UTC), read and written; what the prompt cache held is free.",
)  # fmt: skip
expires_option = click.option("--expires", metavar="WHEN", help="30d, or the last day it counts: 2030-12-31 (UTC).")


@command.command("add", help="Make a key for NAME. It is shown once; a hash of it is stored.")
@click.argument("name")
@models_option
@tokens_option
@expires_option
@json_option
def add_command(
    name: str, models: tuple[str, ...], tokens_per_day: int | None, expires: str | None, as_json: bool
) -> int:
    from llmstack.deploy.client_keys import add
    from llmstack.paths import home

    made = add(home(), name, time.time(), models=models, tokens_per_day=tokens_per_day, expires=expires)
    return _shown(made, as_json)


@command.command("list", help="Whose keys there are, their limits, what each used today, and when it was last seen.")
@json_option
def list_command(as_json: bool) -> int:
    from llmstack.deploy.client_keys import listed
    from llmstack.paths import home
    from llmstack.render.key import show_keys
    from llmstack.render.output import emit

    emit(listed(home(), time.time()), as_json, show_keys)
    return 0


@command.command("rotate", help="Give NAME another key. The old one counts for a while, so that nothing is cut off.")
@click.argument("name")
@click.option("--grace", default="10m", show_default=True, metavar="TIME", help="How long both count: 10m, 1d, or 0.")
@expires_option
@json_option
def rotate_command(name: str, grace: str, expires: str | None, as_json: bool) -> int:
    from llmstack.deploy.client_keys import rotate
    from llmstack.paths import home

    return _shown(rotate(home(), name, time.time(), grace=grace, expires=expires), as_json)


@command.command("revoke", help="End the key of NAME, and any that it replaced, at once.")
@click.argument("name")
@yes_option
@json_option
def revoke_command(name: str, yes: bool, as_json: bool) -> int:
    from llmstack.deploy.client_keys import require, revoke
    from llmstack.errors import Interrupted
    from llmstack.paths import home
    from llmstack.render.key import show_revoked
    from llmstack.render.output import confirm, emit

    key = require(home(), name)
    again = command_line("key", "revoke", name, "--yes")
    if not yes and not as_json and not confirm(f"End the key of {key.name}?", again):
        raise Interrupted("nothing was changed")
    emit(revoke(home(), name, time.time()), as_json, show_revoked)
    return 0
