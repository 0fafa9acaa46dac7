"""`llmstack models find QUERY`: GGUF repositories on the hub, each planned for this machine before any download."""

from __future__ import annotations

from pathlib import Path

import click

from llmstack.cli.options import json_option, machine_option
from llmstack.commands import command_line
from llmstack.errors import MissingPart
from llmstack.fetch.discover import SORTS

FIND = """Look for models on the hub and say what each would do on this machine, from its header: nothing is downloaded.

QUERY: words of a name, such as "qwen3 coder" or an owner. `plan`, `up` and `models pull` take what is printed."""


@click.command("find", help=FIND)
@click.argument("query", nargs=-1, required=True)
@click.option("--fits", is_flag=True, help="Only what fits this machine.")
@click.option("--ctx", type=int, help="Tokens of context that are wanted.")
@click.option("--limit", type=int, default=10, show_default=True, help="Repositories to look at.")
@click.option(
    "--sort", type=click.Choice(SORTS), default="downloads", show_default=True, help="Which come first there."
)
@click.option("--every", is_flag=True, help="Every size of each, not the one that suits this machine.")
@machine_option
@json_option
def find_command(
    query: tuple[str, ...],
    fits: bool,
    ctx: int | None,
    limit: int,
    sort: str,
    every: bool,
    hardware_file: Path | None,
    as_json: bool,
) -> int:
    from llmstack.deploy.machine import this_machine
    from llmstack.deploy.machine_record import machine_of_file
    from llmstack.fetch import hub, read_catalog
    from llmstack.fetch.discover import search
    from llmstack.fetch.found import plan_all, ranked
    from llmstack.paths import home
    from llmstack.render.found import show_found
    from llmstack.render.output import StepProgress, show_json
    from llmstack.render.plan import machine as machine_sentence

    folders = home()
    if hub.offline():
        raise MissingPart(
            "models are looked for on the hub, and this is offline mode",
            next=f"{command_line('models', 'list')}   knows models without a network",
        )
    machine = machine_of_file(hardware_file) if hardware_file is not None else this_machine(folders)
    with StepProgress() as progress:
        repos = []
        for repo in search(" ".join(query), limit=limit, sort=sort):
            progress(f"{repo.repo}: {len(repo.files)} sizes")
            repos.append(repo)
        rows = []
        models = read_catalog(folders).models
        for row in plan_all(repos, machine.hardware, folders.cache, models, ctx=ctx, every=every):
            progress(f"planned {row.repo} {row.quant}".rstrip())
            rows.append(row)
    rows = [row for row in ranked(rows) if row.fits or not fits]
    if as_json:
        show_json({"query": " ".join(query), "models": rows})
    else:
        show_found(rows, repos, machine_sentence(machine.hardware))
    return 0 if rows else 1
