"""The engine for the card that is there, from the source archive: CMake and Ninja of this machine, no network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.gpu.results import Row, TimeOver
from llmstack.detect import drivers
from llmstack.engine.source_package import BuildSpec
from llmstack.errors import MissingPart, NotSo

PROGRAMS = ("llama-server", "llama-fit-params", "llama-bench", "ggml-rpc-server")


def build(out: Path, archive: Path, backend: str, say: Callable[[str], None], minutes: float) -> Row:
    """Leaves DIR/engine/bin. One that was cut off goes on where Ninja stood; its minutes are those of all calls that
    ended by themselves.

    Raises TimeOver after so many minutes, MissingPart for a tool or an archive that is not there, NotSo when it does
    not compile.
    """
    for tool in ("cmake", "ninja", *(("nvcc",) if backend == "cuda" else ())):
        if shutil.which(tool) is None:
            raise MissingPart(f"the build needs {tool}, and this machine has none")
    if not archive.is_file():
        raise MissingPart(f"there is no source archive at {archive}", next="benchmarks/gpu/run pack --out DIR")
    work = out / "engine" / "work"
    source = work / "llama.cpp"
    if not (work / "unpacked").exists():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            for member in tar:
                _, _, inside = member.name.partition("/")
                if inside.startswith("llama.cpp/") and (member.isfile() or member.isdir()):
                    tar.extract(member.replace(name=inside), work, filter="data")
        (work / "unpacked").touch()
    began = time.monotonic()
    spent = work / f"spent-{backend}"  # s, of the calls before
    before = float(spent.read_text()) if spent.exists() else 0.0
    spec = BuildSpec(backend, rpc=True)
    folder = work / f"build-{backend}"
    is_resumed = (folder / "build.ninja").exists()
    say("configuring")
    options = ["-DBUILD_SHARED_LIBS=ON", "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON"]
    left = partial(_left, began + minutes * 60)
    _run(
        ["cmake", "-S", str(source), "-B", str(folder), "-G", "Ninja", *spec.cmake_args(_here(backend)), *options],
        left(),
    )
    say("compiling")
    try:
        _run(["ninja", "-C", str(folder), *PROGRAMS], left())
    finally:
        spent.write_text(f"{before + time.monotonic() - began:.1f}\n")
    target = out / "engine" / "bin"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / "bin", target, symlinks=True)
    return {
        "minutes": round(float(spent.read_text()) / 60, 2), "resumed": is_resumed, "build": spec.package.build,
        "backend": backend,
        "cores": os.cpu_count(), "mib": sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) >> 20,
    }  # fmt: skip


def _here(backend: str) -> tuple[str, ...]:
    """CUDA's architecture of the first card: the others need no code."""
    cards = drivers.read().cards
    capability = cards[0].device.compute_capability if cards else None
    return (f"{round(capability * 10)}-real",) if backend == "cuda" and capability else ()


def _left(deadline: float) -> float:
    """s, at least one."""
    return max(deadline - time.monotonic(), 1.0)


def _run(command: list[str], seconds: float) -> None:
    """With all that it starts, in a group of its own: compilers outlive a Ninja that is killed."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGTERM)  # Ninja then removes what is half written
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeOver from None
            raise
        if status:
            log.seek(0)
            raise NotSo(f"{command[0]} ended with status {status}", why=log.read()[-1500:])
