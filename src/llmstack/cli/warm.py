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

    from llmstack import stackfile
    from llmstack.client.record import record_claude
    from llmstack.deploy.warm import warm
    from llmstack.errors import NotSo
    from llmstack.paths import home
    from llmstack.render.output import Progress, show, show_json

    place = home()
    stack = stackfile.read(place)
    if stack is None:
        raise NotSo("nothing is deployed yet", next="llmstack up MODEL   or   llmstack up --demo")
    with Progress() as progress:
        request = None
        if client is not None:
            progress("starting Claude Code against a recorder")
            request = record_claude(place, os.environ)
        progress("warming the prompt cache")
        told = warm(place, stack, request)
    if as_json:
        show_json(told)
    else:
        source = {"restored": "restored from disk", "computed": "computed and saved"}.get(told["source"] or "", "held")
        if told["prefix_tokens"]:
            show(f"warm: {told['prefix_tokens']:,} tokens, {source}")
        else:
            show("cold: no client has asked anything yet; llmstack warm --client claude   learns its prompt")
    return 0 if told["prefix_tokens"] else 1
