"""`llmstack models pull`, `verify`, `remove` and `disk`: the commands about files."""

from __future__ import annotations

from pathlib import Path

import click

from llmstack.cli.options import json_option, yes_option
from llmstack.commands import again, command_line

offline_option = click.option("--offline", is_flag=True, help="Use what is here; never touch the network.")


@click.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="NAME|hf:OWNER/REPO/FILE|URL|PATH...")
@offline_option
@click.option("--cpu", "without_card", is_flag=True, help="Go on though the engine cannot use a card that is here.")
@click.option("--no-mmproj", is_flag=True, help="Leave out the image encoder of a model that has one.")
@click.option("--allow-host", multiple=True, help="A further host that a download may be redirected to.")
@json_option
def pull_command(
    names: tuple[str, ...],
    offline: bool,
    without_card: bool,
    no_mmproj: bool,
    allow_host: tuple[str, ...],
    as_json: bool,
) -> int:
    """Download models whole and checked, or find them where another program has them.

    An interrupted pull goes on where it stopped. HF_ENDPOINT names a mirror, HF_TOKEN opens gated repositories.
    """
    from llmstack.deploy.machine import refuse_without_card, this_machine
    from llmstack.fetch import locate, models_dir, resolve
    from llmstack.paths import home
    from llmstack.render.models import PullProgress, show_pulled
    from llmstack.render.output import show_json

    folders = home().make()
    models_dir.sweep(folders)
    done = []
    for name in names:
        progress = PullProgress()
        before = locate(folders, name)
        hardware = None
        if before.path is None and before.entry is not None:
            machine = this_machine(folders)
            if not without_card:
                refuse_without_card(machine, before.name, again(None, "--cpu"))
            hardware = machine.hardware
        try:
            model = resolve(
                folders,
                name,
                offline=offline,
                on_progress=progress,
                allow_hosts=allow_host,
                projector=not no_mmproj,
                hardware=hardware,
            )
        finally:
            progress.close()
        paths = [*model.paths, *((model.mmproj,) if model.mmproj else ())]
        already = before.path is not None
        done.append(
            {
                "name": model.name,
                "quant": model.quant,
                "paths": [str(path) for path in model.paths],
                "mmproj": str(model.mmproj) if model.mmproj else None,
                "store": model.store,
                "license": (model.entry.license or None) if model.entry else None,
                "already": already,
                "size_bytes": sum(path.stat().st_size for path in paths),
            }
        )
        if not as_json:
            title = model.name if model.quant in model.name else f"{model.name}:{model.quant}"
            show_pulled(title, paths, model.store, already)
    if as_json:
        show_json({"models": done})
    return 0


@click.command("verify", help="Hash model files anew and compare. Without NAME: every file of the stack's own store.")
@click.argument("names", nargs=-1)
@json_option
def verify_command(names: tuple[str, ...], as_json: bool) -> int:
    from llmstack.fetch import locate, models_dir
    from llmstack.paths import home
    from llmstack.render.models import PullProgress, show_verdicts
    from llmstack.render.output import show_json

    folders = home()
    files: list[tuple[Path, str]] = []
    for name in names:
        model = locate(folders, name)
        if model.path is None:
            from llmstack.errors import NotSo

            raise NotSo(f"{name} is not on this machine", next=command_line("models", "pull", name))
        digests = [source.sha256 for source in model.sources] or [""] * len(model.paths)
        files += list(zip(model.paths, digests, strict=False))
        if model.mmproj:
            files.append((model.mmproj, ""))
    if not names:
        files = [(item.path, "") for item in models_dir.contents(folders) if not item.partial]
    progress = PullProgress()
    verdicts = [models_dir.verify(path, digest, on_progress=progress) for path, digest in files]
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


@click.command("remove", help="Delete a model's files from the stack's own store, unfinished ones too.")
@click.argument("names", nargs=-1, required=True)
@yes_option
@json_option
def remove_command(names: tuple[str, ...], yes: bool, as_json: bool) -> int:
    from llmstack.errors import Interrupted, NotSo
    from llmstack.fetch import models_dir
    from llmstack.fetch.inventory import stored_files
    from llmstack.paths import home
    from llmstack.render.models import show_removed
    from llmstack.render.output import confirm, show_json

    folders = home()
    paths: list[Path] = []
    for name in names:
        files = stored_files(folders, name)
        if not files:
            raise NotSo(
                f"{name} has no file in the stack's own store", next=f"{command_line('models', 'disk')}   lists them"
            )
        paths += files
    if not yes and not as_json:
        question = "Delete " + ", ".join(path.name for path in paths) + "?"
        if not confirm(question, command_line("models", "remove", *names, "--yes")):
            raise Interrupted("nothing was removed")
    freed = models_dir.remove(folders, tuple(paths))
    if as_json:
        show_json({"removed": [str(path) for path in paths], "freed_bytes": freed})
    else:
        show_removed(paths, freed)
    return 0


@click.command("disk", help="Show what the stack's own store holds, and how much it takes.")
@json_option
def disk_command(as_json: bool) -> int:
    from llmstack.fetch import models_dir
    from llmstack.paths import home
    from llmstack.render.models import show_disk
    from llmstack.render.output import show_json

    folders = home()
    stored = models_dir.contents(folders)
    if as_json:
        files = [{"path": str(item.path), "size_bytes": item.size, "partial": item.partial} for item in stored]
        show_json({"folder": str(folders.models), "size_bytes": sum(item.size for item in stored), "files": files})
    else:
        show_disk(stored, folders.models)
    return 0
