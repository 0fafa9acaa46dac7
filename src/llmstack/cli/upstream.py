"""`llmstack upstream`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llmstack.cli.group import CommandGroup
from llmstack.cli.options import json_option, yes_option
from llmstack.commands import command_line


@click.group(
    cls=CommandGroup,
    help="""Other places that answer: clouds, gateways, servers.

    Any of them is asked as UPSTREAM/MODEL, by a profile, or by a route.""",
)
def command() -> None:
    pass


@command.command("list", help="The upstreams, whether each has its key, and which routes lead to it.")
@json_option
def list_command(as_json: bool) -> int:
    from llmstack.catalog.routes import resolve, without_password
    from llmstack.client.profile import routing
    from llmstack.client.upstream_keys import key_state
    from llmstack.paths import home
    from llmstack.render.output import emit
    from llmstack.render.upstream import show_list

    folders = home()
    routes = routing(folders)
    rows: list[dict[str, Any]] = []
    for name, settings in routes.upstreams.items():
        target = resolve(name, settings, None)
        leads = [route.match for route in routes.routes if name in (route.upstream, *(route.fallback or ()))]
        address = without_password(target.base_url)
        row = {"name": name, "kind": target.kind, "base_url": address, "key": key_state(folders, target)}
        rows.append(row | {"routes": leads, "stays_here": target.stays_here})
    emit({"upstreams": rows, "offline": routes.offline}, as_json, show_list)
    return 0


@command.command("test", help="Ask an upstream what Claude Code would ask it: key, model, answer, stream, tools.")
@click.argument("name")
@click.option("--model", metavar="NAME", help="The model to ask for (default: its profile's, else the first it lists).")
@json_option
def test_command(name: str, model: str | None, as_json: bool) -> int:
    from llmstack.client.profile import files
    from llmstack.client.upstream_check import check_upstream
    from llmstack.paths import home
    from llmstack.render.output import StepProgress, emit
    from llmstack.render.upstream import UpstreamChecks, show_checks

    with StepProgress() as progress:
        findings = check_upstream(home(), name, model, progress)
        checks = UpstreamChecks(name, findings, name == "local" or name in files(home()).table("profiles"))
    emit(checks, as_json, show_checks)
    return 0 if checks.ok else 1


@command.command("offline", help="on: refuse every upstream that is not on this machine. off: allow them.")
@click.argument("state", type=click.Choice(["on", "off"]))
@json_option
def offline_command(state: str, as_json: bool) -> int:
    from llmstack.client.upstream_file import set_offline
    from llmstack.paths import home
    from llmstack.render.output import emit
    from llmstack.render.upstream import show_offline

    file = set_offline(home(), state == "on")
    emit({"offline": state == "on", "file": str(file)}, as_json, show_offline)
    return 0


@command.command(
    "add",
    help="""Add an upstream to your models.toml, or store the key of a shipped one. Asks what is not said.

    A key is read from the terminal without echo, or from stdin, and kept in a file that only you can read.""",
)
@click.argument("name", required=False)
@click.option("--kind", type=click.Choice(["openai", "anthropic", "llama-server"]), help="The API it speaks.")
@click.option("--base-url", metavar="URL", help="Its address, with /v1 where its documentation says so.")
@click.option("--key-stdin", is_flag=True, help="Read the key from stdin.")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="Use a key file of your own (0600).")
@click.option("--key-env", metavar="NAME", help="Take the key from a variable of the proxy's environment.")
@click.option("--no-key", is_flag=True, help="It needs no key.")
@click.option("--model", metavar="NAME", help="The model that `claude --profile NAME` asks for.")
@click.option("--context", type=click.IntRange(1024), help="Tokens one request may have; with Ollama, its num_ctx.")
@click.option("--max-output", type=click.IntRange(1), help="Tokens one answer may have.")
@click.option("--route", metavar="GLOB", help="Requested model names that go there, such as 'claude-opus-*'.")
@json_option
def add_command(name: str | None, as_json: bool, **options: Any) -> int:
    from llmstack.client.upstream_add import UpstreamRequest, add
    from llmstack.paths import home
    from llmstack.render.output import emit, warn
    from llmstack.render.upstream import show_added

    outcome = add(home(), name, UpstreamRequest(**options), _ask)
    if outcome.hidden_by is not None:
        warn(f"your route for {outcome.hidden_by} stands before the new one and takes its names")
    data = {"upstream": outcome.name, "file": str(outcome.file), "key_file": outcome.key_file, "model": outcome.model}
    data["route"] = options["route"]
    emit(data, as_json, show_added)
    return 0


@command.command(
    "remove",
    help="""Take out an upstream that `add` wrote into your models.toml, and delete the key that it stored.

    A shipped one stays known, without a key. What stood in its block is printed.""",
)
@click.argument("name")
@yes_option
@json_option
def remove_command(name: str, yes: bool, as_json: bool) -> int:
    from llmstack.client.upstream_file import remove
    from llmstack.errors import Interrupted
    from llmstack.paths import home
    from llmstack.render.output import confirm, emit
    from llmstack.render.upstream import show_removed_upstream

    again = command_line("upstream", "remove", name, "--yes")
    if not yes and not as_json and not confirm(f"Remove {name} and the key that was stored for it?", again):
        raise Interrupted("nothing was removed")
    emit(remove(home(), name), as_json, show_removed_upstream)
    return 0


def _ask(question: str, *, default: str | None = None, secret: bool = False) -> str:
    """One question on stderr. Raises BadInput where nobody can answer."""
    import sys

    from llmstack.errors import BadInput

    if secret and not sys.stdin.isatty():
        raise BadInput("there is no terminal to type a key at", next="--key-stdin, --key-file or --key-env")
    if not secret and not sys.stdin.isatty():
        if default is not None:
            return default
        raise BadInput(f"nobody can be asked: {question}", next=command_line("upstream", "add", "--help"))
    answer: str = click.prompt(question, default=default, hide_input=secret, err=True)
    return answer
