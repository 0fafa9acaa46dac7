"""The GPU kit's build, on a made-up source: real CMake and Ninja, cut off by time and by a kill, and gone on with."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from support.paths import ROOT
from support.programs import debian_packages
from support.wait import eventually

RUN = ROOT / "benchmarks" / "gpu" / "run"
# each program waits before it is compiled, one after the other, as a large file would
CMAKE = """cmake_minimum_required(VERSION 3.18)
project(stand_in C)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(before "")
foreach(name llama-server llama-fit-params llama-bench ggml-rpc-server)
  add_custom_command(OUTPUT ${name}.c COMMAND sleep 1.5
    COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_SOURCE_DIR}/main.c ${name}.c DEPENDS ${before})
  add_executable(${name} ${CMAKE_BINARY_DIR}/${name}.c)
  set(before ${CMAKE_BINARY_DIR}/${name}.c)
endforeach()
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    debian_packages(("cmake", "ninja", "cc"), ("cmake", "ninja-build", "gcc", "libc6-dev"))
    archive = tmp_path / "source.tar.gz"
    texts = {"CMakeLists.txt": CMAKE, "main.c": "int main(void) { return 0; }\n"}
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"package-1/llama.cpp/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return [str(RUN), "build", "--backend", "cpu", "--archive", str(archive), "--out", str(tmp_path / "out")]


def call(command: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *more], capture_output=True, text=True, timeout=120, check=False)


def test_a_build_that_its_time_does_not_reach_goes_on_at_the_next_call(command: list[str], tmp_path: Path) -> None:
    first = call(command, "--minutes", "0.05")
    assert first.returncode == 75, first.stderr
    assert "goes on there" in first.stderr
    time.sleep(2)
    work = tmp_path / "out" / "engine" / "work"
    sources = sorted((work / "build-cpu").glob("*.c"))
    assert len(sources) < 4, "nothing compiles on behind its back"
    stamps = {path: path.stat().st_mtime_ns for path in sources}
    second = call(command)
    assert second.returncode == 0, second.stderr
    assert {path: path.stat().st_mtime_ns for path in sources} == stamps, "what was ready is not made again"
    [row] = json.loads((tmp_path / "out" / "build.json").read_text())["rows"]
    assert row["resumed"] and row["minutes"] >= 0.05
    assert (tmp_path / "out" / "engine" / "bin" / "ggml-rpc-server").exists()


def test_a_build_that_was_killed_goes_on(command: list[str], tmp_path: Path) -> None:
    build = tmp_path / "out" / "engine" / "work" / "build-cpu"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    eventually(lambda: any(build.glob("*.c")), within_s=60)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "build.json").exists()
    again = call(command)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "engine" / "bin" / "llama-server").exists()


def test_a_source_that_does_not_compile_is_said_with_the_compiler_s_words(command: list[str], tmp_path: Path) -> None:
    assert call(command, "--minutes", "0.02").returncode == 75
    source = tmp_path / "out" / "engine" / "work" / "llama.cpp" / "main.c"
    source.write_text("int main(void) { return }\n")
    failed = call(command)
    assert failed.returncode == 1
    assert "ninja ended with status" in failed.stderr and "main" in failed.stderr
