"""`llmstack models`: list, show, pull, verify, remove, disk, cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmstack.cli.options import json_option, yes_option
from llmstack.commands import command_line

if TYPE_CHECKING:
    from llmstack.catalog.models import Catalog, Model
    from llmstack.hardware import Hardware
    from llmstack.paths import Home

offline_option = click.option("--offline", is_flag=True, help="Use what is here; never touch the network.")


@click.group(help="List, pull, verify and remove models.")
def command() -> None:
    pass


@command.command("list")
@json_option
@click.option("--every", is_flag=True, help="Every size of every model, not the best one for this machine.")
@click.option("--names", is_flag=True, help="Only names and sizes; nothing is planned.")
@click.option(
    "--hardware",
    "hardware_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Plan for another machine (its `{command_line('doctor', '--hardware')}`).",
)
def list_command(as_json: bool, every: bool, names: bool, hardware_file: Path | None) -> int:
    """Show which models fit this machine, how fast, and at what quality rank, before any download."""
    from llmstack.fetch import read_catalog
    from llmstack.fetch.survey import recommended, survey
    from llmstack.paths import home
    from llmstack.render.models import show_list, show_names
    from llmstack.render.output import StepProgress, show_json

    where = home()
    catalog = read_catalog(where)
    here = _here(where, catalog)
    if names and not as_json:
        show_names(catalog.models, here)
        return 0
    machine = _hardware(hardware_file)
    rows = []
    if not names:
        with StepProgress() as progress:
            for row in survey(catalog, machine, where.cache, every=every):
                progress(f"planned {row.name}")
                rows.append(row)
    if as_json:
        planned = {row.name: row for row in rows}
        listed: list[dict[str, Any]] = []
        for row in rows if every else ():
            listed.append({**_entry(row.name, catalog.models[row.name], here), **_row(row)})
        for name, model in () if every else catalog.models.items():
            listed.append({**_entry(name, model, here), **(_row(planned[name]) if name in planned else {})})
        show_json({"models": listed, "recommended": recommended(rows, catalog.models) or None})
    else:
        show_list(rows, catalog.models, here, _machine(machine))
    return 0


@command.command("show", help="Show what is known of a model: files, sampling, license, sources, chat template.")
@click.argument("name")
@click.option("--template", is_flag=True, help="Print the chat template itself.")
@json_option
def show_command(name: str, template: bool, as_json: bool) -> int:
    from llmstack.fetch import locate, read_catalog
    from llmstack.paths import home
    from llmstack.render.models import show_model, show_template
    from llmstack.render.output import show_json

    where = home()
    catalog = read_catalog(where)
    found = locate(where, name, catalog=catalog)
    data: dict[str, Any] = {"name": found.name}
    if found.entry is not None:
        data |= _entry(found.name, found.entry, {})
        data["sizes"] = _sizes(where, found.name, found.entry, catalog)
    elif found.paths:
        total = sum(path.stat().st_size for path in found.paths if path.exists())
        data["sizes"] = [{"quant": found.quant, "size_bytes": total, "sha256": [], "path": str(found.path)}]
    text = _template(found.path) if found.path is not None else None
    if text is not None:
        data["template"] = text
    if template:
        if text is None:
            from llmstack.errors import NotSo

            raise NotSo(f"{found.name} is not here, or it has no template", next=command_line("models", "pull", name))
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


@command.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="NAME|hf:OWNER/REPO/FILE|URL|PATH...")
@offline_option
@click.option("--no-mmproj", is_flag=True, help="Leave out the image encoder of a model that has one.")
@click.option("--allow-host", multiple=True, help="A further host that a download may be redirected to.")
@json_option
def pull_command(
    names: tuple[str, ...], offline: bool, no_mmproj: bool, allow_host: tuple[str, ...], as_json: bool
) -> int:
    """Download models whole and checked, or find them where another program has them.

    An interrupted pull goes on where it stopped. HF_ENDPOINT names a mirror, HF_TOKEN opens gated repositories.
    """
    from llmstack.fetch import locate, resolve
    from llmstack.paths import home
    from llmstack.render.models import PullProgress, show_pulled
    from llmstack.render.output import show_json

    where = home().make()
    done = []
    for name in names:
        progress = PullProgress()
        before = locate(where, name)
        hardware = _hardware(None) if before.path is None and before.entry is not None else None
        try:
            found = resolve(
                where,
                name,
                offline=offline,
                progress=progress,
                allow_hosts=allow_host,
                projector=not no_mmproj,
                hardware=hardware,
            )
        finally:
            progress.close()
        paths = [*found.paths, *((found.mmproj,) if found.mmproj else ())]
        already = before.path is not None
        done.append(
            {
                "name": found.name,
                "quant": found.quant,
                "paths": [str(path) for path in found.paths],
                "mmproj": str(found.mmproj) if found.mmproj else None,
                "store": found.store,
                "already": already,
                "size_bytes": sum(path.stat().st_size for path in paths),
            }
        )
        if not as_json:
            title = found.name if found.quant in found.name else f"{found.name}:{found.quant}"
            show_pulled(title, paths, found.store, already)
    if as_json:
        show_json({"models": done})
    return 0


@command.command("verify", help="Hash model files anew and compare. Without NAME: every file of the stack's own store.")
@click.argument("names", nargs=-1)
@json_option
def verify_command(names: tuple[str, ...], as_json: bool) -> int:
    from llmstack.fetch import library, locate
    from llmstack.paths import home
    from llmstack.render.models import PullProgress, show_verdicts
    from llmstack.render.output import show_json

    where = home()
    wanted: list[tuple[Path, str]] = []
    for name in names:
        found = locate(where, name)
        if found.path is None:
            from llmstack.errors import NotSo

            raise NotSo(f"{name} is not on this machine", next=command_line("models", "pull", name))
        digests = [source.sha256 for source in found.sources] or [""] * len(found.paths)
        wanted += list(zip(found.paths, digests, strict=False))
        if found.mmproj:
            wanted.append((found.mmproj, ""))
    if not names:
        wanted = [(item.path, "") for item in library.contents(where) if not item.partial]
    progress = PullProgress()
    verdicts = [library.verify(path, digest, report=progress) for path, digest in wanted]
    progress.close()
    if as_json:
        show_json(
            {
                "ok": all(verdict.ok is not False for verdict in verdicts),
                "files": [
                    {"path": str(v.path), "ok": v.ok, "sha256": v.sha256, "expected": v.expected, "why": v.why}
                    for v in verdicts
                ],
            }
        )
    else:
        show_verdicts(verdicts)
    return 0 if all(verdict.ok is not False for verdict in verdicts) else 1


@command.command("remove", help="Delete a model's files from the stack's own store, unfinished ones too.")
@click.argument("names", nargs=-1, required=True)
@yes_option
@json_option
def remove_command(names: tuple[str, ...], yes: bool, as_json: bool) -> int:
    from llmstack.errors import NotSo
    from llmstack.fetch import library
    from llmstack.fetch.stored import stored_files
    from llmstack.paths import home
    from llmstack.render.models import show_removed
    from llmstack.render.output import show_json

    where = home()
    paths: list[Path] = []
    for name in names:
        found = stored_files(where, name)
        if not found:
            raise NotSo(
                f"{name} has no file in the stack's own store", next=f"{command_line('models', 'disk')}   lists them"
            )
        paths += found
    if not yes and not as_json:
        click.confirm("Delete " + ", ".join(path.name for path in paths) + "?", abort=True, err=True)
    freed = library.remove(where, tuple(paths))
    if as_json:
        show_json({"removed": [str(path) for path in paths], "freed_bytes": freed})
    else:
        show_removed(paths, freed)
    return 0


@command.command("disk", help="Show what the stack's own store holds, and how much it takes.")
@json_option
def disk_command(as_json: bool) -> int:
    from llmstack.fetch import library
    from llmstack.paths import home
    from llmstack.render.models import show_disk
    from llmstack.render.output import show_json

    where = home()
    stored = library.contents(where)
    if as_json:
        files = [{"path": str(item.path), "size_bytes": item.size, "partial": item.partial} for item in stored]
        show_json({"folder": str(where.models), "size_bytes": sum(item.size for item in stored), "files": files})
    else:
        show_disk(stored, where.models)
    return 0


@command.command("cards", help="Print, as Markdown, what each model does on common cards (docs/models.md holds it).")
@click.option(
    "--into", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Replace the table in this page."
)
@json_option
def cards_command(into: Path | None, as_json: bool) -> int:
    from llmstack.fetch import read_catalog
    from llmstack.fetch.cards import CARDS, cards
    from llmstack.paths import home
    from llmstack.render.models import cards_markdown, show_text, with_table
    from llmstack.render.output import show_json

    where = home()
    catalog = read_catalog(where)
    table = cards(catalog, where.cache)
    if as_json:
        show_json({"cards": {name: {str(gib): _row(row) for gib, row in rows.items()} for name, rows in table.items()}})
        return 0
    text = cards_markdown(table, catalog.models, {gib: card.name for gib, card in CARDS.items()})
    if into is not None:
        into.write_text(with_table(into.read_text("utf-8"), text), "utf-8")
    else:
        show_text(text)
    return 0


def _hardware(file: Path | None) -> Hardware:
    """This machine, or the one in a file. Cards that NVML does not know are asked of the engine in use."""
    from dataclasses import replace

    from llmstack.detect.hardware import detect
    from llmstack.engine.find import devices_of, find
    from llmstack.errors import MissingPart
    from llmstack.hardware import from_json
    from llmstack.paths import home

    if file is not None:
        return from_json(file.read_bytes())
    hardware = detect().hardware
    if not hardware.devices:
        try:
            return replace(hardware, devices=devices_of(find(home())))
        except MissingPart:
            pass
    return hardware


def _machine(hardware: Hardware) -> str:
    cards = ", ".join(f"{device.name} ({device.free_mib / 1024:.1f} GiB free)" for device in hardware.devices)
    ram = f"{hardware.ram.available_mib / 1024:.0f} GiB of RAM free"
    return f"{cards}, {ram}" if cards else f"this processor ({hardware.cpu.physical_cores} cores), {ram}"


def _here(where: Home, catalog: Catalog) -> dict[str, str]:
    """Which models are on this machine, and in whose store."""
    from llmstack.fetch import locate, stores

    known = stores.known()
    found = {}
    for name in catalog.models:
        model = locate(where, name, catalog=catalog, known=known)
        if model.path is not None:
            found[name] = f"{model.quant} ({model.store})" if model.store != "own" else model.quant
    return found


def _entry(name: str, model: Model, here: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": model.summary,
        "repo": model.repo,
        "license": model.license,
        "total": model.total,
        "active": model.active,
        "context": model.context,
        "quality": model.quality,
        "arch": model.arch,
        "tools": model.tools.value if model.tools else None,
        "reasoning": model.reasoning.value if model.reasoning else None,
        "sampling": [list(pair) for pair in model.sampling.flags()],
        "sampling_thinking": [list(pair) for pair in model.sampling_thinking.flags()],
        "quirks": list(model.quirks),
        "sources": list(model.sources),
        "quants": list(model.sizes()),
        "drafter": f"{model.drafter.repo}/{model.drafter.file}" if model.drafter else None,
        "here": here.get(name),
    }


def _row(row: Any) -> dict[str, Any]:
    return {
        "quant": row.quant,
        "fits": row.fits,
        "size_bytes": row.size_bytes,
        "planned_context": row.context,
        "decode_tps": row.decode_tps,
        "prefill_tps": row.prefill_tps,
        "ttft_cold_s": row.ttft_cold_s,
        "reason": row.reason,
    }


def _sizes(where: Home, name: str, model: Model, catalog: Catalog) -> list[dict[str, Any]]:
    from llmstack.fetch import locate

    listed = []
    for quant, size in model.sizes().items():
        found = locate(where, f"{name}:{quant}", catalog=catalog)
        listed.append(
            {
                "quant": quant,
                "repo": size.repo or model.repo,
                "files": list(size.names),
                "size_bytes": size.bytes,
                "exact": bool(size.size),
                "sha256": list(size.digests),
                "path": str(found.path) if found.path else None,
                "store": found.store or None,
            }
        )
    return listed


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
