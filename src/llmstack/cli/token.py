"""`llmstack token`."""

from __future__ import annotations

import click

from llmstack.cli.options import json_option


@click.command(help="Print the token that clients send; usable as Claude Code's apiKeyHelper.")
@json_option
def command(as_json: bool) -> int:
    from llmstack.deploy import keys
    from llmstack.paths import home
    from llmstack.render.output import emit, show

    emit({"token": keys.token(home())}, as_json, lambda secret: show(secret["token"]))
    return 0
