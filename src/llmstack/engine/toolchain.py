"""What a build needs from the machine, checked before half an hour is spent on it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llmstack.engine import cuda_toolkit, cuda_wheels
from llmstack.engine.cuda_toolkit import CudaPlan, output_of
from llmstack.engine.vulkan_headers import EXTENSION, OLDEST
from llmstack.errors import MissingPart

GIB = 1 << 30
DISK_NEEDED = {"cpu": 2 * GIB, "vulkan": 3 * GIB, "cuda": 6 * GIB}
"""Build folder, wheel and result. Measured for cpu on build 11434: 1.1 GiB; cuda and vulkan are estimates."""

MEMORY_PER_JOB = {"cpu": 1.25 * GIB, "vulkan": 1.5 * GIB, "cuda": 3 * GIB}
"""Peak of one compiler process: nvcc on the attention kernels is the largest."""

_PREFIXES = (Path("/usr"), Path("/usr/local"))


@dataclass(frozen=True, slots=True)
class Toolchain:
    """compiler: what `c++ --version` says first. jobs: how many compilers at once. cuda: of a CUDA build alone.
    lacks_vulkan_types: the headers want `vulkan_headers`."""

    compiler: str
    jobs: int
    cuda: CudaPlan | None = None
    lacks_vulkan_types: bool = False


def check(backend: str, folder: Path) -> Toolchain:
    """Finds the compilers and the room for a build. Raises MissingPart for the first thing that is not there."""
    _check_disk(backend, folder)
    compiler = _check_compiler()
    cuda = cuda_toolkit.plan() if backend == "cuda" else None
    lacks_types = _check_vulkan() if backend == "vulkan" else False
    return Toolchain(compiler, jobs(backend), cuda, lacks_types)


def jobs(backend: str) -> int:
    """As many compilers at once as there are cores and as fit into the memory that is free now."""
    import psutil

    fitting = int(psutil.virtual_memory().available / MEMORY_PER_JOB[backend])
    return max(
        1, min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, fitting)
    )


def _check_disk(backend: str, folder: Path) -> None:
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free, needed = shutil.disk_usage(existing).free, DISK_NEEDED[backend]
    if free < needed:
        raise MissingPart(
            f"a build for {backend} needs {needed / GIB:.0f} GiB of disk, and {free / GIB:.1f} GiB are free",
            why=f"in {folder}",
            next="free some space, or set LLMSTACK_HOME to a folder on a larger disk",
        )


def _check_compiler() -> str:
    """Compiles and links a few lines of C++17. Raises MissingPart with the compiler's own words."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    packages = "sudo apt install build-essential   (Debian, Ubuntu), or: sudo dnf install gcc-c++ make   (Fedora)"
    if not compiler:
        raise MissingPart("there is no C++ compiler", why="neither c++, g++ nor clang++ is on PATH", next=packages)
    with tempfile.TemporaryDirectory(prefix="llmstack-") as folder:
        source = Path(folder) / "check.cpp"
        source.write_text(
            "#include <filesystem>\n#include <string_view>\nint main() { return std::string_view().size(); }\n"
        )
        status, output = output_of([*compiler.split(), "-std=c++17", str(source), "-o", str(Path(folder) / "check")])
    if status != 0:
        lines = [line for line in output.splitlines() if line.strip()]
        raise MissingPart(
            f"the C++ compiler {compiler} does not work",
            why=next((line for line in lines if "error" in line), lines[0] if lines else f"exit status {status}"),
            next=packages,
        )
    return output_of([*compiler.split(), "--version"])[1].partition("\n")[0]


def _check_vulkan() -> bool:
    """What ggml-vulkan's CMakeLists.txt asks for: glslc, headers and loader, SPIRV-Headers with its CMake file.

    Whether the headers lack the types that `vulkan_headers` adds. Raises MissingPart for what is not there.
    """
    sdk = os.environ.get("VULKAN_SDK")
    roots = [*([Path(sdk)] if sdk else []), *_PREFIXES]
    missing = [] if shutil.which("glslc") else ["glslc (the shader compiler)"]
    header = next((path for root in roots if (path := root / "include/vulkan/vulkan_core.h").is_file()), None)
    if header is None:
        missing.append("the Vulkan headers")
    if not any(path for root in roots for part in ("lib*", "lib*/*") for path in root.glob(f"{part}/libvulkan.so")):
        missing.append("the Vulkan loader (libvulkan.so)")
    config = "cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake"
    if not any(path for root in roots for part in ("share", "lib*") for path in root.glob(f"{part}/{config}")):
        missing.append("SPIRV-Headers")
    if missing:
        raise MissingPart(
            f"a Vulkan build needs {', '.join(missing[:-1])}{' and ' if missing[1:] else ''}{missing[-1]}",
            next="sudo apt install glslc libvulkan-dev spirv-headers   (Debian, Ubuntu), or lunarg.com's Vulkan SDK",
        )
    text = header.read_text("utf-8", "replace") if header else ""
    if EXTENSION in text:
        return False
    version = re.search(r"define VK_HEADER_VERSION (\d+)", text)
    if version is not None and int(version[1]) >= OLDEST:
        return True
    raise MissingPart(
        "the Vulkan headers are too old for this llama.cpp",
        why=f"{header} has header version {version[1] if version else 'unknown'}, {OLDEST} is the oldest that works",
        next="unpack lunarg.com's Vulkan SDK and set VULKAN_SDK to its x86_64 folder, or use Debian 12's headers",
    )


def suggest() -> str:
    """The backend that suits this machine; `vulkan` for a graphics card and all that the build asks for."""
    cards = cuda_toolkit.cuda_cards()
    from_wheels = bool(cards) and min(cards) >= cuda_wheels.OLDEST_CARD and not cuda_wheels.why_none_here()
    if cards and (from_wheels or cuda_toolkit.has_nvcc()):
        return "cuda"
    try:
        if any(Path("/dev/dri").glob("renderD*")):
            _check_vulkan()
            return "vulkan"
    except MissingPart:
        pass
    return "cpu"
