"""Which engines are here, and which one is in use.

In use is, in this order: the one that `llmstack engine use` chose; the newest one built by `llmstack engine
install`; a `llama-server` on PATH that is new enough; the embedded one.
"""

from __future__ import annotations

import enum
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from llmstack.commands import command_line
from llmstack.engine import probe as probing
from llmstack.engine.advisories import MIN_BUILD
from llmstack.engine.flags import Flags, has, parse_help
from llmstack.engine.forks import fork_of
from llmstack.engine.probe import DeviceList
from llmstack.errors import MissingPart
from llmstack.hardware import Device
from llmstack.llama_server.flags import NEEDED
from llmstack.paths import Home

YOUNGER_FLAG = "--moe-cache-mib"
"""A flag younger than MIN_BUILD (llama.cpp pull 29887, b11480): a build that does not know its own number (one from a
source archive says 0) is taken when it has it."""

ACCELERATED = frozenset({"cuda", "vulkan", "hip", "sycl"})
CHECKPOINTS_IN_FILES = 11506
"""From this build on a slot's file holds its context checkpoints (llama.cpp pull 26004): a recurrent state and a
sliding window come back from disk with points to return to. No flag tells it."""

EMBEDDED_COMMAND = (sys.executable, "-m", "llmstack.engine.embedded")


class EngineKind(enum.StrEnum):
    EMBEDDED = "embedded"
    BINARY = "binary"


class EngineOrigin(enum.StrEnum):
    """How an engine came to be answers."""

    CONFIGURED = "configured"  # `llmstack engine use /path/to/llama-server`
    RELEASE = "release"
    BUILT = "built"
    PATH = "path"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine. `command` + a llama-server argv is what is started.

    name: what `engine use` takes. build: llama.cpp's build number, None where it is not answers. folder: where
    its other programs lie (llama-bench, ggml-rpc-server), None for the embedded one. flags: None where it
    could not be asked. refused: why it must not be started, empty when it may be. fork: the fork of llama.cpp that it
    is; its own number is in `version` and is no `build`.
    """

    name: str
    kind: EngineKind
    origin: EngineOrigin
    command: tuple[str, ...]
    version: str = ""
    build: int | None = None
    backends: tuple[str, ...] = ()
    folder: Path | None = None
    flags: Flags | None = None
    refused: str = ""
    devices: tuple[Device, ...] = ()
    fork: str = ""

    @property
    def keeps_checkpoints(self) -> bool:
        """Whether its slot files hold context checkpoints; one that does not say its number counts as without."""
        return self.build is not None and self.build >= CHECKPOINTS_IN_FILES


class EngineChoice(msgspec.Struct, frozen=True):
    """What `engine use` wrote: the engine in use, and the ones before it, the latest last."""

    use: str = ""
    previous: tuple[str, ...] = ()


class BuildSource(enum.StrEnum):
    """Where the programs of an installed engine came from."""

    SOURCE = "source"  # compiled here, from the pinned source package
    RELEASE = "release"  # llama.cpp's own archive


class BuildRecord(msgspec.Struct, frozen=True):
    """engine.json in the folder of an installed engine. archives: SHA-256 of each archive of a release, by name.
    untried: what the smoke test of a build could not show on this machine."""

    name: str
    package: str
    build: int
    backends: tuple[str, ...]
    cmake_args: tuple[str, ...]
    source_sha256: str
    built_at: str
    seconds: float
    compiler: str = ""
    source: BuildSource = BuildSource.SOURCE
    archives: dict[str, str] = {}
    untried: str = ""

    @property
    def origin(self) -> EngineOrigin:
        return EngineOrigin.RELEASE if self.source is BuildSource.RELEASE else EngineOrigin.BUILT


def engines_folder(home: Home) -> Path:
    return home.data / "engines"


def read_choice(home: Home) -> EngineChoice:
    try:
        return msgspec.json.decode((home.state / "engine.json").read_bytes(), type=EngineChoice)
    except (OSError, msgspec.DecodeError):
        return EngineChoice()


def find(home: Home) -> Engine:
    """The engine in use. Raises MissingPart when none is here, or when the chosen one cannot be used."""
    chosen = read_choice(home).use
    if chosen:
        engine = named(home, chosen)
        if engine is None:
            raise MissingPart(
                f"the engine in use is gone: {chosen}",
                next=(
                    f"{command_line('engine', 'list')}   shows what is "
                    f"here; {command_line('engine', 'use', 'NAME')}   chooses"
                ),
            )
        return usable(engine)
    for candidate in (*_built(home), *_on_path(home), *_embedded(home)):
        if not candidate.refused:
            return candidate
    raise MissingPart(
        "there is no engine on this machine",
        why="no build, no llama-server on PATH that is new enough, and the embedded one is not installed",
        # By its own name: `llmstack` on PyPI is somebody else's program.
        next=f"{command_line('engine', 'install')}   gets one, or: pip install 'xllamacpp>=2026.10'",
    )


def usable(engine: Engine) -> Engine:
    """The engine itself. Raises MissingPart with the reason when it must not be started."""
    if engine.refused:
        raise MissingPart(
            f"the engine {engine.name} cannot be used: {engine.refused}",
            next=(
                f"{command_line('engine', 'install')}   gets one; "
                f"{command_line('engine', 'use', 'NAME')}   chooses another"
            ),
        )
    return engine


def list_engines(home: Home, *, devices: bool = False) -> tuple[Engine, ...]:
    """Every engine that is here, the usable and the refused. With `devices` each is asked for them (slower)."""
    engines = [*_configured(home), *_built(home), *_on_path(home), *_embedded(home)]
    if devices:
        engines = [
            engine if engine.refused else replace(engine, devices=devices_of(engine).devices) for engine in engines
        ]
    return tuple(engines)


def named(home: Home, name: str) -> Engine | None:
    """The engine that `engine list` shows under this name; or the binary at this path, or in this folder."""
    for engine in list_engines(home):
        if engine.name == name:
            return engine
    path = Path(name).expanduser()
    if path.is_dir():  # of a build, or what a release's archive unpacks to
        inside = (path / place / "llama-server" for place in ("", "bin", "build/bin"))
        path = next((binary for binary in inside if binary.is_file()), path)
    if path.is_file():
        return of_binary(path.absolute(), home, EngineOrigin.CONFIGURED)
    return None


def devices_of(engine: Engine) -> DeviceList:
    """The accelerators that the engine itself sees now, with their free memory (`--list-devices`)."""
    if engine.kind is EngineKind.EMBEDDED and set(engine.backends) <= {"cpu"}:
        return DeviceList()  # a wheel for processors: to start a Python only to hear that takes a second
    return probing.list_devices(engine.command)


def of_binary(binary: Path, home: Home, origin: EngineOrigin, record: BuildRecord | None = None) -> Engine:
    """Describes a llama-server binary, and says whether it may be started."""
    name = record.name if record else str(binary)
    answers = probing.probe(binary, home.cache)
    flags = answers.flags() if not answers.failure else None
    fork = fork_of(flags)
    build = record.build if record else None if fork else answers.build
    return Engine(
        name=name,
        kind=EngineKind.BINARY,
        origin=origin,
        command=(str(binary),),
        version=answers.version,
        build=build,
        backends=record.backends if record else answers.backends,
        folder=binary.resolve().parent,
        flags=flags,
        refused=f"it does not run: {answers.failure}" if answers.failure else why_refused(build, flags),
        fork=fork,
    )


def why_refused(build: int | None, flags: Flags | None) -> str:
    """Why a build must not be started, or an empty string. A fork is judged by its flags alone."""
    if build is not None and build < MIN_BUILD:
        return (
            f"build {build} is older than {MIN_BUILD}, which closes holes that a request (CVE-2026-107183) and a model "
            "file (CVE-2026-27940) can reach"
        )
    if flags is None:
        return ""
    missing = [flag.name for flag in NEEDED if not has(flags, flag)]
    if missing:
        return f"it lacks {', '.join(missing)}"
    if build is None and YOUNGER_FLAG not in flags and not fork_of(flags):
        return f"it does not say which build it is, and it lacks {YOUNGER_FLAG}, so it may be older than {MIN_BUILD}"
    return ""


def _configured(home: Home) -> list[Engine]:
    choice = read_choice(home)
    engines = []
    for name in dict.fromkeys((choice.use, *reversed(choice.previous))):
        if name and os.sep in name and Path(name).is_file() and name != shutil.which("llama-server"):
            engines.append(of_binary(Path(name), home, EngineOrigin.CONFIGURED))
    return engines


def _built(home: Home) -> list[Engine]:
    """Built ones, the newest build first, one with an accelerator before one without."""
    builds = []
    for record_file in engines_folder(home).glob("*/engine.json"):
        binary = record_file.parent / "bin" / "llama-server"
        try:
            record = msgspec.json.decode(record_file.read_bytes(), type=BuildRecord)
            builds.append((record, of_binary(binary, home, record.origin, record)))
        except (OSError, msgspec.DecodeError):
            continue
    builds.sort(key=lambda pair: (pair[0].build, bool(ACCELERATED & set(pair[0].backends)), pair[0].built_at))
    return [engine for _, engine in reversed(builds)]


def _on_path(home: Home) -> list[Engine]:
    binary = shutil.which("llama-server")
    return [of_binary(Path(binary).absolute(), home, EngineOrigin.PATH)] if binary else []


def _embedded(home: Home) -> list[Engine]:
    import importlib.metadata

    try:
        version = importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError:
        return []
    last = version.split("+")[0].split(".")[-1]  # 2026.10.11549: the last part is llama.cpp's build
    build = int(last) if last.isdigit() and len(last) >= 4 else None
    from llmstack.engine.embedded import help_text

    flags = parse_help(help_text())
    engine = Engine(
        name="embedded",
        kind=EngineKind.EMBEDDED,
        origin=EngineOrigin.EMBEDDED,
        command=EMBEDDED_COMMAND,
        version=version,
        build=build,
        backends=("cpu",),
        flags=flags,
    )
    return [replace(engine, refused=why_refused(build, flags))]
