"""`llmstack warm`."""

from __future__ import annotations

import click

from llmstack.cli.options import json_option


@click.command(
    help="""Have the server read a client's long prompt now, so that its first message is answered at once.

    Without an option: the prompts that were used last. `--client claude` starts Claude Code once against a recorder on
    this machine to learn its system text and tools; nothing is sent to a model but those."""
)
@click.option("--client", type=click.Choice(["claude"]), help="Learn the prompt from this client.")
@json_option
def command(client: str | None, as_json: bool) -> int:
    import os

    from llmstack.client.record import record_claude
    from llmstack.deploy.ensure_ready import running_stack
    from llmstack.deploy.warm import warm
    from llmstack.paths import home
    from llmstack.render.cache import show_warmed
    from llmstack.render.output import StepProgress, emit

    folders = home()
    stack = running_stack(folders)
    with StepProgress() as progress:
        request = None
        if client is not None:
            progress("starting Claude Code against a recorder")
            request = record_claude(folders, os.environ)
        progress("warming the prompt cache")
        status = warm(folders, stack, request)
    emit(status, as_json, show_warmed)
    return 0 if status["prefix_tokens"] else 1
