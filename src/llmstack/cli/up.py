"""`llmstack up`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from llmstack.cli.goal import goal_options
from llmstack.cli.options import json_option
from llmstack.commands import again, command_line
from llmstack.errors import BadInput

if TYPE_CHECKING:
    from llmstack.deploy.planning import UpRequest
    from llmstack.paths import Home


@click.command(
    help="""Start the stack on MODEL: a catalog name, hf:OWNER/REPO/FILE, a URL, or a path to a GGUF.

    Plans, starts server and proxy in the background, waits until both answer, measures a cold and a cached prefill, and
    says how to connect. Without MODEL it starts what was deployed last. All or nothing: when a step fails, the previous
    stack runs again."""
)
@click.argument("model", required=False)
@click.option("--demo", is_flag=True, help="Use a small model written on the spot: no download, no GPU.")
@click.option(
    "--listen", "host", metavar="ADDRESS", help="Address of the proxy: 127.0.0.1 (default), 0.0.0.0 for all, or one."
)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the proxy (default 5000).")
@click.option("--server-port", type=click.IntRange(1, 65535), help="Port of llama-server (default 8080).")
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="A name that clients call the proxy by, such as one behind a web server; '' for none.",
)
@click.option("--tls-cert", metavar="FILE", help="A certificate (PEM): other machines then get TLS; '' for none.")
@click.option("--tls-key", metavar="FILE", help="The key of that certificate.")
@click.option("--tls-port", type=click.IntRange(1, 65535), help="Port for other machines, with TLS (default 5443).")
@click.option("--proxy-only", is_flag=True, help="Start the proxy and no model: for upstreams elsewhere.")
@click.option("--cpu", "without_card", is_flag=True, help="Go on though the engine cannot use a card that is here.")
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
    allow_hosts: tuple[str, ...],
    tls_cert: str | None,
    tls_key: str | None,
    tls_port: int | None,
    proxy_only: bool,
    without_card: bool,
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
    request = UpRequest(
        model, demo, make_goal(**goal), host, port, server_port, offline, host_names(allow_hosts), without_card,
        tls_files=_tls_files(tls_cert, tls_key), tls_port=tls_port,
    )  # fmt: skip
    if proxy_only or _was_alone(folders, request):
        if model or demo or any(value for value in goal.values()):
            raise BadInput("--proxy-only starts no model", next=command_line("up", "--proxy-only"))
        return _up_alone(folders, request, as_json=as_json, foreground=foreground)
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


def host_names(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """As `--allow-host` gives them; None where it was not given. Raises BadInput for what is no name."""
    for name in names:
        if name and not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", name):
            raise BadInput(
                f"--allow-host {name} is no host name", why="a name alone, without http:// and without a port",
                next=command_line("up", "--allow-host", "llm.example.lan"),
            )  # fmt: skip
    return tuple(dict.fromkeys(name.lower() for name in names if name)) if names else None


def _tls_files(cert: str | None, key: str | None) -> tuple[str, str] | None:
    """Raises BadInput for one without the other."""
    if not cert and not key:
        return None if cert is None and key is None else ("", "")
    if cert and key:
        return cert, key
    missing = ("--tls-key", "FILE") if cert else ("--tls-cert", "FILE")
    raise BadInput("a certificate and its key belong together", next=again("up", *missing))


def _was_alone(home: Home, request: UpRequest) -> bool:
    """Whether the proxy alone is all that was ever deployed: then it is what `up` starts again."""
    from llmstack import stackfile

    nothing_said = request.model is None and not request.demo
    return nothing_said and stackfile.read(home) is None and stackfile.read_alone(home) is not None


def _up_alone(home: Home, request: UpRequest, *, as_json: bool, foreground: bool) -> int:
    from llmstack.deploy.proxy_alone import up_alone
    from llmstack.deploy.status import gather
    from llmstack.render.output import StepProgress, emit
    from llmstack.render.stack import show_alone

    with StepProgress() as progress:
        up_alone(home, request, progress)
    emit(gather(home), as_json, show_alone)
    if foreground:
        from llmstack.deploy.foreground import hold
        from llmstack.render.logs import show_following

        hold(home, lambda lines: show_following((), lines, is_raw=False))
    return 0
