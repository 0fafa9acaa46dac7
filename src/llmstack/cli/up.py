"""`llmstack up`."""

from __future__ import annotations

import click

from llmstack.cli.goal import goal_options
from llmstack.cli.options import json_option
from llmstack.commands import command_line
from llmstack.errors import BadInput


@click.command(
    help="""Start the stack on MODEL: a catalog name, hf:OWNER/REPO/FILE, a URL, or a path to a GGUF.

    Plans, starts server and proxy in the background, waits until both answer, measures a cold and a cached prefill, and
    says how to connect. Without MODEL it starts what was deployed last. All or nothing: when a step fails, the previous
    stack runs again."""
)
@click.argument("model", required=False)
@click.option("--demo", is_flag=True, help="Use a small model written on the spot: no download, no GPU.")
@click.option("--listen", "host", help="Address of the proxy (default 127.0.0.1).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the proxy (default 5000).")
@click.option("--server-port", type=click.IntRange(1, 65535), help="Port of llama-server (default 8080).")
@click.option("--offline", is_flag=True, help="Never use the network.")
@click.option("--foreground", is_flag=True, help="Stay, show the logs, and stop the stack at the end: for containers.")
@click.option("--force", is_flag=True, help="Replace units that were edited by hand.")
@goal_options
@json_option
def command(
    model: str | None,
    demo: bool,
    host: str | None,
    port: int | None,
    server_port: int | None,
    offline: bool,
    foreground: bool,
    force: bool,
    as_json: bool,
    **goal: object,
) -> int:
    from llmstack.cli.goal import make_goal
    from llmstack.deploy.apply import up
    from llmstack.deploy.planning import UpRequest
    from llmstack.deploy.prepare import prepare
    from llmstack.paths import home
    from llmstack.render.output import StepProgress, show_json, warn
    from llmstack.render.stack import show_up, up_json

    if demo and model:
        raise BadInput(
            "--demo brings its own model", next=f"{command_line('up', '--demo')}   or   {command_line('up', 'MODEL')}"
        )
    if foreground and as_json:
        raise BadInput(
            "--foreground has no end, so it cannot be one JSON object", next=command_line("up", "--foreground")
        )
    folders = home()
    request = UpRequest(model, demo, make_goal(**goal), host, port, server_port, offline)
    with StepProgress() as progress:
        prepared = prepare(folders, request, progress, progress.download)
        for sentence in prepared.warnings:
            progress.done()
            warn(sentence)
        outcome = up(folders, prepared.deployment, progress, force=force)
    for sentence in outcome.notices:
        warn(sentence)
    if as_json:
        show_json(up_json(outcome, (*prepared.warnings, *outcome.notices)))
    else:
        show_up(outcome, is_demo=demo)
    if foreground:
        from llmstack.deploy.foreground import hold
        from llmstack.render.logs import show_following

        hold(folders, lambda lines: show_following((), lines, is_raw=False))
    return 0
