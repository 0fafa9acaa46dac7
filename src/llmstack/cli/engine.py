"""`llmstack engine`: list, install, use, remove; upgrade and rollback are in `engine_upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmstack.cli.engine_upgrade import rollback_command, upgrade_command
from llmstack.cli.group import CommandGroup
from llmstack.cli.options import json_option, yes_option
from llmstack.commands import command_line
from llmstack.errors import BadInput, Interrupted

if TYPE_CHECKING:
    from llmstack.engine.find import Engine


@click.group(cls=CommandGroup, help="List, install and choose llama.cpp engines.")
def command() -> None:
    pass


command.add_command(upgrade_command)
command.add_command(rollback_command)


@command.command("list", help="Show the engines on this machine: version, backends, devices, and which one is in use.")
@json_option
@click.option("--no-devices", is_flag=True, help="Do not ask each engine for its devices (quicker).")
@click.option("--check", is_flag=True, help="Ask GitHub whether llama.cpp has released a newer build.")
def list_command(as_json: bool, no_devices: bool, check: bool) -> int:
    from llmstack.engine.find import list_engines
    from llmstack.paths import home
    from llmstack.render.engine import EngineList, show_engines
    from llmstack.render.output import emit

    folders = home()
    engines = list_engines(folders, devices=not no_devices)
    newest, is_newer = "", False
    if check:
        from llmstack.release.install import newest as ask

        newest, is_newer = ask(engines)
    emit(EngineList(engines, _in_use(), newest, is_newer), as_json, show_engines)
    return 0


@command.command("install")
@json_option
@click.option("--cpu", "backends", multiple=True, flag_value="cpu", help="For the processor only.")
@click.option("--cuda", "backends", multiple=True, flag_value="cuda", help="For NVIDIA cards.")
@click.option("--vulkan", "backends", multiple=True, flag_value="vulkan", help="For any card with a Vulkan driver.")
@click.option("--rocm", "backends", multiple=True, flag_value="rocm", help="For AMD cards with ROCm.")
@click.option("--sycl", "backends", multiple=True, flag_value="sycl", help="For Intel cards with oneAPI.")
@click.option("--tag", metavar="TAG", help="A build (b12345), a release (v1.0.0), stable or nightly.")
@click.option(
    "--archive",
    "archives",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A downloaded archive instead; again for its CUDA libraries.",
)
@click.option("--sha256", "sums", multiple=True, metavar="HEX", help="The sum of each --archive, in the same order.")
@click.option("--build", is_flag=True, help="Compile it here, from the pinned source package.")
@click.option("--rpc", is_flag=True, help="Also the RPC backend and its server (every release has them).")
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Compile it from this source package, for a machine without a network.",
)
@click.option("--keep", is_flag=True, help="Install it, but leave the engine in use as it is.")
def install_command(
    as_json: bool,
    backends: tuple[str, ...],
    tag: str | None,
    archives: tuple[Path, ...],
    sums: tuple[str, ...],
    build: bool,
    rpc: bool,
    source: Path | None,
    keep: bool,
) -> int:
    """Install llama-server: llama.cpp's own release for this machine, or one that is compiled here.

    Without --cpu, --cuda, … it takes what this machine has. What is downloaded is checked against the sum that the
    release states, tried on this machine, and only then used. An engine that is already there is taken at once.
    """
    from llmstack.paths import home
    from llmstack.render.engine import BuildProgress, InstalledEngine, show_installed
    from llmstack.render.output import emit

    backend = _one_backend(backends)
    _check_ways(tag, archives, sums, build=build or source is not None)
    progress = BuildProgress()
    try:
        folders = home().make()
        if build or source is not None:
            from llmstack.engine.install import BuildSpec, SourcePackage, install
            from llmstack.engine.toolchain import suggest

            if backend in ("rocm", "sycl"):
                raise BadInput(
                    f"--{backend} is not compiled here", next=command_line("engine", "install", f"--{backend}")
                )
            spec = BuildSpec(backend or suggest(), rpc, SourcePackage(source=source))
            done = install(folders, spec, on_progress=progress, choose=not keep)
        elif archives:
            from llmstack.release.install import LocalArchive, install_archive

            given = [LocalArchive(*pair) for pair in zip(archives, sums, strict=True)]
            done = install_archive(folders, given, on_progress=progress, use_it=not keep)
        else:
            from llmstack.release.assets import DEFAULT_TAG
            from llmstack.release.host import this_host
            from llmstack.release.install import install_release

            done = install_release(
                folders, this_host(), tag=tag or DEFAULT_TAG, backend=backend, on_progress=progress, use_it=not keep
            )
    finally:
        progress.close()
    emit(InstalledEngine(done, done.engine.name if not keep else _in_use()), as_json, show_installed)
    return 0


def _one_backend(backends: tuple[str, ...]) -> str | None:
    """Raises BadInput for two: one build has one."""
    if len(set(backends)) > 1:
        raise BadInput(
            f"{' and '.join(f'--{name}' for name in dict.fromkeys(backends))} are two engines",
            next=command_line("engine", "install", f"--{backends[0]}"),
        )
    return backends[0] if backends else None


def _check_ways(tag: str | None, archives: tuple[Path, ...], sums: tuple[str, ...], *, build: bool) -> None:
    """Raises BadInput for options that ask for two things at once."""
    ways = [name for name, is_asked in (("--tag", tag), ("--archive", archives), ("--build", build)) if is_asked]
    if len(ways) > 1:
        raise BadInput(f"{ways[0]} and {ways[1]} are two ways to one engine", next="give one of the two")
    if len(archives) != len(sums):
        raise BadInput(
            f"{len(archives)} --archive and {len(sums)} --sha256", why="each archive is checked against its own sum",
            next=command_line("engine", "install", "--archive", "FILE", "--sha256", "HEX"),
        )  # fmt: skip


@command.command("use", help="Use this engine from now on: a name from `engine list`, or the path of a llama-server.")
@click.argument("name")
@json_option
def use_command(name: str, as_json: bool) -> int:
    from llmstack.engine.choose import use
    from llmstack.paths import home

    return _used(use(home().make(), name), as_json)


@command.command("remove", help="Delete an installed engine.")
@click.argument("name")
@yes_option
@json_option
def remove_command(name: str, yes: bool, as_json: bool) -> int:
    from llmstack.engine.install import installed_folder, remove
    from llmstack.paths import home
    from llmstack.render.models import show_removed
    from llmstack.render.output import confirm, emit

    if name == _in_use():
        raise BadInput(f"{name} is in use", next=f"{command_line('engine', 'use', 'OTHER')}   first")
    installed_folder(home(), name)
    if (
        not yes
        and not as_json
        and not confirm(f"Delete the engine {name}?", command_line("engine", "remove", name, "--yes"))
    ):
        raise Interrupted("nothing was removed")
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
