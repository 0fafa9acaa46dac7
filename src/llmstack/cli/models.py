"""`llmstack models`: list, find, show, pull, update, verify, remove, disk, cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmstack.cli.group import CommandGroup
from llmstack.cli.model_files import disk_command, pull_command, remove_command, verify_command
from llmstack.cli.model_find import find_command
from llmstack.cli.model_update import update_command
from llmstack.cli.options import json_option, machine_option, supposed_machine, supposed_options
from llmstack.commands import command_line

if TYPE_CHECKING:
    from llmstack.catalog.models import Catalog, Model
    from llmstack.paths import Home


@click.group(cls=CommandGroup, help="List, find, pull, update, verify and remove models.")
def command() -> None:
    pass


for _command in (find_command, pull_command, update_command, verify_command, remove_command, disk_command):
    command.add_command(_command)


@command.command("list")
@json_option
@click.option("--every", is_flag=True, help="Every size of every model, not the best one for this machine.")
@click.option("--check", "checks", is_flag=True, help="Ask the hub whether the files that are here are still the same.")
@click.option(
    "--older", type=click.IntRange(min=0), metavar="DAYS", help="Only names: whose facts were looked up before."
)
@click.option("--names", is_flag=True, help="Only names and sizes; nothing is planned.")
@machine_option
@supposed_options
def list_command(
    as_json: bool,
    every: bool,
    checks: bool,
    older: int | None,
    names: bool,
    hardware_file: Path | None,
    gpus: tuple[str, ...],
    vram: int | None,
    ram: int | None,
) -> int:
    """Show which models fit this machine, how fast, and at what quality rank, before any download."""
    from llmstack.deploy.known_headers import KnownHeaders
    from llmstack.deploy.machine_record import machine_of_file
    from llmstack.fetch import read_catalog
    from llmstack.fetch.survey import recommended, survey
    from llmstack.paths import home
    from llmstack.render.models import entry_json, row_json, show_list, show_names
    from llmstack.render.output import StepProgress, show_json, warn
    from llmstack.render.plan import machine as machine_sentence

    folders = home()
    if checks:
        return _check(folders, as_json)
    catalog = read_catalog(folders)
    if older is not None:
        return _older(catalog, older, as_json)
    here = _here(folders, catalog)
    if names and not as_json:
        show_names(catalog.models, here)
        return 0
    if hardware_file is not None:
        machine = machine_of_file(hardware_file)
    else:
        from llmstack.deploy.machine import this_machine

        machine = this_machine(folders)
    machine = supposed_machine(machine, gpus, vram, ram)
    for sentence in machine.warnings:
        warn(sentence)
    rows = []
    known = KnownHeaders(folders)
    if not names:
        with StepProgress() as progress:
            for row in survey(catalog, machine.hardware, folders.cache, every=every, known=known):
                progress(f"planned {row.name}")
                rows.append(row)
    for sentence in known.notes.values():
        warn(sentence)
    if as_json:
        planned = {row.name: row for row in rows}
        listed: list[dict[str, Any]] = []
        for row in rows if every else ():
            listed.append({**entry_json(row.name, catalog.models[row.name], here), **row_json(row)})
        for name, model in () if every else sorted(catalog.models.items(), key=lambda item: item[1].order):
            listed.append({**entry_json(name, model, here), **(row_json(planned[name]) if name in planned else {})})
        show_json({"models": listed, "recommended": recommended(rows, catalog.models) or None})
    else:
        show_list(rows, catalog.models, here, machine_sentence(machine.hardware))
    return 0


def _older(catalog: Catalog, days: int, as_json: bool) -> int:
    from datetime import date

    from llmstack.render.models import show_older
    from llmstack.render.output import show_json

    today = date.today()
    ages = {
        name: (today - date.fromisoformat(model.checked)).days
        for name, model in catalog.models.items()
        if model.checked
    }
    old = {name: ages.get(name) for name in catalog.models if ages.get(name, days + 1) > days}
    if as_json:
        show_json({"days": days, "models": [{"name": name, "days": age} for name, age in old.items()]})
    else:
        show_older(old, days)
    return 0


def _check(folders: Home, as_json: bool) -> int:
    """1 where a file was replaced under its name, or is gone."""
    from llmstack.fetch.upstream_state import UpstreamState, check
    from llmstack.render.found import show_changes
    from llmstack.render.output import StepProgress, show_json

    with StepProgress() as progress:
        files = []
        for one in check(folders):
            progress(f"{one.name}: {one.state}")
            files.append(one)
    if as_json:
        show_json({"files": files})
    else:
        show_changes(files)
    return 1 if any(one.state in (UpstreamState.REPLACED, UpstreamState.GONE) for one in files) else 0


@command.command("show", help="Show what is known of a model: files, sampling, license, sources, chat template.")
@click.argument("name")
@click.option("--template", is_flag=True, help="Print the chat template itself.")
@json_option
def show_command(name: str, template: bool, as_json: bool) -> int:
    from llmstack.fetch import locate, read_catalog
    from llmstack.paths import home
    from llmstack.render.models import entry_json, show_model, show_template
    from llmstack.render.output import show_json

    folders = home()
    catalog = read_catalog(folders)
    model = locate(folders, name, catalog=catalog)
    data: dict[str, Any] = {"name": model.name}
    if model.entry is not None:
        data |= entry_json(model.name, model.entry, {})
        data["sizes"] = _sizes(folders, model.name, model.entry, catalog)
        data["difference"] = _difference(folders, model.name, model.entry)
    elif model.paths:
        total = sum(path.stat().st_size for path in model.paths if path.exists())
        data["sizes"] = [{"quant": model.quant, "size_bytes": total, "sha256": [], "path": str(model.path)}]
    text = _template(model.path) if model.path is not None else None
    if text is not None:
        data["template"] = text
    if template:
        if text is None:
            from llmstack.errors import NotSo

            raise NotSo(f"{model.name} is not here, or it has no template", next=command_line("models", "pull", name))
        if as_json:
            show_json(data["template"])
        else:
            show_template(text["text"], text["change"])
        return 0
    if as_json:
        show_json(data)
    else:
        show_model(data)
    return 0


@command.command(
    "cards", help="Print, as Markdown, what each model does on common cards, and where its facts are from."
)
@click.option(
    "--into",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replace both tables in this page (docs/models.md holds them).",
)
@json_option
def cards_command(into: Path | None, as_json: bool) -> int:
    from llmstack.fetch import read_catalog
    from llmstack.fetch.cards import CARDS, cards
    from llmstack.paths import home, write_atomic
    from llmstack.render.catalog_page import cards_markdown, facts_markdown, with_table
    from llmstack.render.models import row_json, show_text
    from llmstack.render.output import show_json

    folders = home()
    catalog = read_catalog(folders)
    table = cards(catalog, folders.cache)
    if as_json:
        show_json(
            {"cards": {name: {str(gib): row_json(row) for gib, row in rows.items()} for name, rows in table.items()}}
        )
        return 0
    tables = (
        cards_markdown(table, catalog.models, {gib: card.name for gib, card in CARDS.items()}),
        facts_markdown(catalog.models),
    )
    if into is None:
        show_text("\n\n".join(tables))
        return 0
    page = into.read_text("utf-8")
    for one in tables:
        page = with_table(page, one)
    write_atomic(into, page.encode(), into.stat().st_mode & 0o777)
    return 0


def _here(home: Home, catalog: Catalog) -> dict[str, str]:
    """Which models are on this machine, and in whose store."""
    from llmstack.fetch import foreign_caches, locate

    caches = foreign_caches.on_this_machine()
    labels = {}
    for name in catalog.models:
        model = locate(home, name, catalog=catalog, caches=caches)
        if model.path is not None:
            labels[name] = f"{model.quant} ({model.store})" if model.store != "own" else model.quant
    return labels


def _sizes(home: Home, name: str, model: Model, catalog: Catalog) -> list[dict[str, Any]]:
    from llmstack.fetch import locate

    listed = []
    for quant, size in model.sizes().items():
        copy = locate(home, f"{name}:{quant}", catalog=catalog)
        listed.append(
            {
                "quant": quant,
                "repo": size.repo or model.repo,
                "files": list(size.names),
                "size_bytes": size.bytes,
                "exact": bool(size.size),
                "sha256": list(size.digests),
                "path": str(copy.path) if copy.path else None,
                "store": copy.store or None,
            }
        )
    return listed


def _difference(home: Home, name: str, model: Model) -> str | None:
    """Where the catalog's dimensions are not those of a file that is here, or whose header was read before."""
    from llmstack.deploy.known_headers import KnownHeaders

    known = KnownHeaders(home)
    for quant in model.sizes():
        known(name, model, quant)
    return known.notes.get(name)


def _template(path: Path) -> dict[str, Any] | None:
    """The chat template inside a model file. Nothing rewrites it: llama-server renders it as it is."""
    import hashlib

    from llmstack.detect.model_file import open_model

    text = open_model(path).header.chat_template
    if text is None:
        return None
    return {
        "characters": len(text),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "change": "used as it is in the file: nothing was changed",
        "text": text,
    }
