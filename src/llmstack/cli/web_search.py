"""`llmstack web-search`."""

from __future__ import annotations

import click

from llmstack.cli.group import CommandGroup
from llmstack.cli.options import json_option

SERVICES = ("searxng", "brave", "tavily", "command")


@click.group(
    cls=CommandGroup,
    help="""Who searches the web for this stack. Off until you choose.

    Claude Code's web searches are then answered by the proxy, without the model.""",
)
def command() -> None:
    pass


@command.command(
    "use",
    help="""Choose who searches: searxng URL, brave, tavily, or command -- PROGRAM ARGUMENTS.

    A command gets the query as its last argument and prints a JSON list of {"title", "url", "snippet"}. A key is read
    from the terminal without echo, or from stdin, and kept in a file that only you can read.""",
)
@click.argument("service", type=click.Choice(SERVICES))
@click.argument("arguments", nargs=-1, metavar="[URL | -- PROGRAM ARGUMENTS]")
@click.option("--base-url", metavar="URL", help="Another address than the back end's own.")
@click.option("--key-stdin", is_flag=True, help="Read the key from stdin.")
@click.option("--key-env", metavar="NAME", help="Take the key from a variable of the proxy's environment.")
@json_option
def use_command(
    service: str,
    arguments: tuple[str, ...],
    base_url: str | None,
    key_stdin: bool,
    key_env: str | None,
    as_json: bool,
) -> int:
    from llmstack.client.web_setup import use
    from llmstack.paths import home
    from llmstack.render.output import emit
    from llmstack.render.web_search import show_setup

    setup = use(home(), service, arguments, _ask, base_url=base_url, key_stdin=key_stdin, key_env=key_env)
    emit(setup, as_json, show_setup)
    return 0


@command.command("off", help="End web searches, and delete the key that was stored for them.")
@json_option
def off_command(as_json: bool) -> int:
    from llmstack.client.web_setup import off
    from llmstack.paths import home
    from llmstack.render.output import emit
    from llmstack.render.web_search import show_setup

    emit(off(home()), as_json, show_setup)
    return 0


@command.command("fetch", help="on: fetch the page that a web_fetch call names. off: the default.")
@click.argument("state", type=click.Choice(["on", "off"]))
@json_option
def fetch_command(state: str, as_json: bool) -> int:
    from llmstack.client.web_setup import set_fetch
    from llmstack.paths import home
    from llmstack.render.output import emit
    from llmstack.render.web_search import show_setup

    emit(set_fetch(home(), state == "on"), as_json, show_setup)
    return 0


@command.command("test", help="Search once, as the proxy would.")
@click.argument("query")
@json_option
def test_command(query: str, as_json: bool) -> int:
    from llmstack.client.web_setup import try_search
    from llmstack.paths import home
    from llmstack.render.output import emit
    from llmstack.render.web_search import show_trial

    emit(try_search(home(), query), as_json, show_trial)
    return 0


@command.command("show", help="What is set; never the key.")
@json_option
def show_command(as_json: bool) -> int:
    from llmstack.client.web_setup import shown
    from llmstack.paths import home
    from llmstack.render.output import emit
    from llmstack.render.web_search import show_setup

    emit(shown(home()), as_json, show_setup)
    return 0


def _ask(question: str, *, default: str | None = None, secret: bool = False) -> str:
    """One question on stderr. Raises BadInput where nobody can answer."""
    import sys

    from llmstack.errors import BadInput

    if not sys.stdin.isatty():
        raise BadInput(
            f"there is no terminal to ask at: {question}", next="--key-stdin, --key-env" if secret else "--base-url URL"
        )
    answer: str = click.prompt(question, default=default, hide_input=secret, err=True)
    return answer
