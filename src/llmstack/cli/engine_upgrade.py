"""`llmstack engine upgrade` and `llmstack engine rollback`: to another engine by proof, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llmstack.cli.options import json_option

if TYPE_CHECKING:
    from llmstack.engine.find import Engine
    from llmstack.paths import Home

UPGRADE = """Prove another engine on the deployed model, and move the stack to it.

The new engine is installed beside the old one and runs the deployed model on ports of its own: tool calls with your
client's tools, schemas that broke grammars before, streams, the prompt cache, saved states, speed. Every proof is shown
with its figure. When one fails, the engine of now stays."""

ROLLBACK = """Use the engine that was in use before; a running stack goes back to it, with the states saved then."""


@click.command("upgrade", help=UPGRADE)
@click.option("--to", metavar="TAG|NAME", help="A release (b12345), an engine of `engine list`, or a llama-server.")
@click.option("--insist", is_flag=True, help="Move to it though a proof fails.")
@json_option
def upgrade_command(to: str | None, insist: bool, as_json: bool) -> int:
    from llmstack.paths import home
    from llmstack.render.output import StepProgress, emit
    from llmstack.render.upgrade import show_upgraded
    from llmstack.upgrade.run import deployed_stack, upgrade

    folders = home()
    deployed_stack(folders)
    candidate = _candidate(folders, to)
    with StepProgress() as progress:
        result = upgrade(folders, candidate, progress, insist=insist)
    emit(result, as_json, show_upgraded)
    return 0 if result.switched else 1


def _candidate(folders: Home, to: str | None) -> Engine:
    """An engine that is here, by its name or path; else the release of that tag, installed beside the others."""
    from llmstack.engine.find import named
    from llmstack.release.assets import DEFAULT_TAG
    from llmstack.release.host import this_host
    from llmstack.release.install import install_release
    from llmstack.render.engine import BuildProgress

    engine = named(folders, to) if to is not None else None
    if engine is not None:
        return engine
    progress = BuildProgress()
    try:
        tag = to or DEFAULT_TAG
        return install_release(folders, this_host(), tag=tag, on_progress=progress, use_it=False).engine
    finally:
        progress.close()


@click.command("rollback", help=ROLLBACK)
@json_option
def rollback_command(as_json: bool) -> int:
    from llmstack.paths import home
    from llmstack.render.engine import UsedEngine, show_used
    from llmstack.render.output import StepProgress, emit
    from llmstack.upgrade.run import go_back

    with StepProgress() as progress:
        engine, runs = go_back(home(), progress)
    emit(UsedEngine(engine, runs), as_json, show_used)
    return 0
