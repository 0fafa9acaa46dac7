"""pip at work for a build: its tools in folders of their own, the source fetched and compiled, all of it logged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmstack.commands import command_line
from llmstack.engine import cuda_wheels
from llmstack.engine.cuda_wheels import CudaWheels
from llmstack.engine.explain import explain
from llmstack.engine.source_package import PACKAGE, BuildSpec
from llmstack.engine.toolchain import Toolchain
from llmstack.engine.vulkan_headers import write_added_types
from llmstack.errors import Interrupted

FETCHING_CUDA = "fetching NVIDIA's compiler"
LOCK = Path(__file__).with_name("build-requirements.txt")


@dataclass(frozen=True, slots=True)
class BuildStep:
    """stage: what is being done; done and total count compiled files, or what `unit` says; both 0 without a count."""

    stage: str
    done: int = 0
    total: int = 0
    unit: str = "files"


def quiet(step: BuildStep) -> None:
    """Shows nothing."""


class BuildLog:
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


class PipBuild:
    """One build: `work` is its own folder and goes with it, `tools` keeps what the next one needs again."""

    def __init__(self, work: Path, tools: Path, spec: BuildSpec, chain: Toolchain, log: BuildLog) -> None:
        self.work, self.tools, self.spec, self.chain, self.log = work, tools, spec, chain, log
        self.environment = build_environment(work, chain)

    def wheel(self, cmake_args: Sequence[str]) -> Path:
        """Compiles the source package. Raises MissingPart that says what went wrong, Interrupted on ctrl-C."""
        self.environment["CMAKE_ARGS"] = shlex.join(cmake_args)  # the package's setup.py takes it apart again
        requirement = self.work / "requirement.txt"
        requirement.write_text(f"{self.spec.package.requirement}\n")
        self.log.on_progress(BuildStep("fetching the source"))
        # no cache: pip would hand back a wheel that was built with other flags
        self._pip("compiling", "wheel", "-v", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--no-binary",
                  PACKAGE, "--require-hashes", "-r", str(requirement), "-w", str(self.work / "wheel"))  # fmt: skip
        wheels = list((self.work / "wheel").glob("*.whl"))
        if len(wheels) != 1:
            raise explain("pip made no wheel", self.log.path, self.spec.backend)
        return wheels[0]

    def prepare(self) -> None:
        """pip, CMake and Ninja in an environment of their own, locked by hash; kept in the cache for the next build."""
        key = hashlib.sha256(LOCK.read_bytes() + sys.version.encode() + sys.executable.encode()).hexdigest()[:16]
        venv = self.tools / key
        self.environment["PATH"] = f"{venv / 'bin'}{os.pathsep}{self.environment.get('PATH', os.defpath)}"
        self.python = str(venv / "bin" / "python")
        if (venv / "complete").is_file():
            return
        self.log.on_progress(BuildStep("preparing the build tools"))
        for old in self.tools.glob("*"):
            if not old.name.startswith("cuda-"):
                shutil.rmtree(old, ignore_errors=True)
        self._run([sys.executable, "-m", "venv", str(venv)], "preparing the build tools")
        self._pip("preparing", "install", "--require-hashes", "--no-deps", "-r", str(LOCK))
        (venv / "complete").touch()

    def cuda_wheels(self, why: str) -> CudaWheels:
        """NVIDIA's compiler and libraries, from the cache or from PyPI. why: this machine's own are not used."""
        self.log.line(f"NVIDIA's wheels are used: {why}\n", "")

        def install(arguments: Sequence[str]) -> None:
            self.log.on_progress(BuildStep("fetching NVIDIA's compiler (570 MB)"))
            self._pip(FETCHING_CUDA, "install", *arguments)

        wheels = cuda_wheels.ready(self.tools, install)
        self.environment["LDFLAGS"] = wheels.linker_flags(self.environment.get("LDFLAGS", ""))
        return wheels

    def _pip(self, stage: str, *arguments: str) -> None:
        self._run([self.python, "-m", "pip", "--no-input", *arguments], stage)

    def _run(self, argv: list[str], stage: str) -> None:
        _run(argv, self.environment, self.log, stage, self.spec)


def build_environment(work: Path, chain: Toolchain) -> dict[str, str]:
    """This process's environment without what would change the build unseen, and with what pip and Ninja need."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("LLAMA_", "GGML_", "CMAKE_"))},
        "CMAKE_GENERATOR": "Ninja",
        "NINJA_STATUS": "[%f/%t] ",
        "LLAMA_CPP_BUILD_JOBS": str(chain.jobs),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(chain.jobs),
        "TMPDIR": str(work / "tmp"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONNOUSERSITE": "1",
    }
    environment.pop("PYTHONPATH", None)
    if chain.cuda and not chain.cuda.nvcc:
        for name in ("CUDACXX", "CUDA_PATH", "CUDA_HOME", "CUDAToolkit_ROOT"):  # another toolkit's
            environment.pop(name, None)
    if chain.lacks_vulkan_types:
        added = write_added_types(work / "include")
        environment["CXXFLAGS"] = f"-I{added} {environment.get('CXXFLAGS', '')}".strip()
    return environment


def _run(argv: list[str], environment: Mapping[str, str], log: BuildLog, stage: str, spec: BuildSpec) -> None:
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
                "the build was stopped", next=command_line("engine", "install", f"--{spec.backend}", "--build")
            ) from None
        raise
    if status != 0:
        task = stage if stage == FETCHING_CUDA else "the build"
        raise explain("".join(tail), log.path, spec.backend, task)
