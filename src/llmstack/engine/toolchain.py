"""What a build needs from the machine, checked before half an hour is spent on it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmstack.commands import command_line
from llmstack.engine.vulkan_headers import EXTENSION, OLDEST
from llmstack.errors import MissingPart

GIB = 1 << 30
DISK_NEEDED = {"cpu": 2 * GIB, "vulkan": 3 * GIB, "cuda": 6 * GIB}
"""Build folder, wheel and result. Measured for cpu on build 11434: 1.1 GiB; cuda and vulkan are estimates."""

MEMORY_PER_JOB = {"cpu": 1.25 * GIB, "vulkan": 1.5 * GIB, "cuda": 3 * GIB}
"""Peak of one compiler process: nvcc on the attention kernels is the largest."""

_NVCC_FOR = (
    # (compute capability at least, first CUDA toolkit whose nvcc compiles for it): CUDA release notes
    ((12, 1), (12, 9)),
    ((12, 0), (12, 8)),
    ((10, 3), (12, 9)),
    ((10, 0), (12, 8)),
    ((9, 0), (11, 8)),
    ((8, 9), (11, 8)),
    ((8, 7), (11, 4)),
    ((8, 6), (11, 1)),
    ((8, 0), (11, 0)),
    ((7, 5), (10, 0)),
    ((7, 0), (9, 0)),
)
_DROPPED_IN_13 = (7, 5)
"""CUDA 13 compiles for compute capability 7.5 and newer only (its release notes: Maxwell, Pascal, Volta removed)."""


_PREFIXES = (Path("/usr"), Path("/usr/local"))


@dataclass(frozen=True, slots=True)
class Toolchain:
    """compiler: what `c++ --version` says first. jobs: how many compilers at once. cuda_architectures: of the
    cards here, or those of CUDAARCHS, in CMake's form. lacks_vulkan_types: the headers want `vulkan_headers`."""

    compiler: str
    jobs: int
    cuda_architectures: tuple[str, ...] = ()
    lacks_vulkan_types: bool = False


def check(backend: str, folder: Path) -> Toolchain:
    """Finds the compilers and the room for a build. Raises MissingPart for the first thing that is not there."""
    _check_disk(backend, folder)
    compiler = _check_compiler()
    architectures: tuple[str, ...] = ()
    if backend == "cuda":
        architectures = _check_cuda()
    lacks_types = _check_vulkan() if backend == "vulkan" else False
    return Toolchain(compiler, jobs(backend), architectures, lacks_types)


def jobs(backend: str) -> int:
    """As many compilers at once as there are cores and as fit into the memory that is free now."""
    import psutil

    fitting = int(psutil.virtual_memory().available / MEMORY_PER_JOB[backend])
    return max(
        1, min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, fitting)
    )


def too_old(nvcc: tuple[int, int], card: tuple[int, int]) -> str:
    """Why this nvcc cannot compile for this card (compute capability), or an empty string."""
    if nvcc >= (13, 0) and card < _DROPPED_IN_13:
        return f"CUDA {nvcc[0]}.{nvcc[1]} no longer compiles for compute capability {card[0]}.{card[1]}; CUDA 12 does"
    for capability, toolkit in _NVCC_FOR:
        if card >= capability:
            if nvcc < toolkit:
                return (
                    f"nvcc is {nvcc[0]}.{nvcc[1]}, and the card (compute capability {card[0]}.{card[1]}) "
                    f"needs {toolkit[0]}.{toolkit[1]}"
                )
            return ""
    return ""


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
        status, output = _run([*compiler.split(), "-std=c++17", str(source), "-o", str(Path(folder) / "check")])
    if status != 0:
        lines = [line for line in output.splitlines() if line.strip()]
        raise MissingPart(
            f"the C++ compiler {compiler} does not work",
            why=next((line for line in lines if "error" in line), lines[0] if lines else f"exit status {status}"),
            next=packages,
        )
    return _run([*compiler.split(), "--version"])[1].partition("\n")[0]


def _check_cuda() -> tuple[str, ...]:
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc") or _usual_nvcc()
    if not nvcc:
        raise MissingPart(
            "there is no CUDA compiler (nvcc)",
            why="a CUDA build needs the toolkit, not only the driver",
            next=(
                "install the CUDA toolkit (developer.nvidia.com/cuda-downloads), "
                f"or: {command_line('engine', 'install', '--vulkan')}"
            ),
        )
    match = re.search(r"release (\d+)\.(\d+)", _run([nvcc, "--version"])[1])
    if match is None:
        raise MissingPart(f"{nvcc} does not say which release it is", next="reinstall the CUDA toolkit")
    release = (int(match[1]), int(match[2]))
    cards = cuda_cards()
    for card in cards:
        problem = too_old(release, card)
        if problem:
            raise MissingPart(
                problem,
                next=(
                    "install that CUDA toolkit and put its nvcc first on "
                    f"PATH, or: {command_line('engine', 'install', '--vulkan')}"
                ),
            )
    _check_cuda_toolkit(nvcc)
    named = tuple(part for part in os.environ.get("CUDAARCHS", "").split(";") if part)
    if not cards and not named:
        raise MissingPart(
            "no NVIDIA card can be seen here, so there is nothing to compile for",
            why="nvidia-smi names none: its driver is missing, or this container was not given the card",
            next=(
                "install the driver; or name the architecture: "
                f"CUDAARCHS=86-real {command_line('engine', 'install', '--cuda')}"
            ),
        )
    return named or tuple(sorted({f"{major}{minor}-real" for major, minor in cards}))


def _check_cuda_toolkit(nvcc: str) -> None:
    """Compiles one line that needs cuBLAS. Some packages hold nvcc alone, and not every C++ compiler will do."""
    with tempfile.TemporaryDirectory(prefix="llmstack-") as folder:
        source = Path(folder) / "check.cu"
        source.write_text("#include <cublas_v2.h>\nint main() { return 0; }\n")
        host = os.environ.get("CUDAHOSTCXX", "")
        chosen = ["-ccbin", host] if host else []
        status, output = _run([nvcc, *chosen, "-std=c++17", "-c", str(source), "-o", str(Path(folder) / "check.o")])
    if status == 0:
        return
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    why = next((line for line in lines if "error" in line), lines[0] if lines else f"exit status {status}")
    if "cublas_v2.h" in why:
        raise MissingPart(
            "the CUDA toolkit is not complete: cuBLAS is missing",
            why=why,
            next=(
                "install all of it (developer.nvidia.com/cuda-downloads), "
                f"or: {command_line('engine', 'install', '--vulkan')}"
            ),
        )
    if "unsupported GNU version" in output or "host compiler" in output:
        why = next((line for line in lines if "unsupported" in line), why)
        raise MissingPart(
            "nvcc does not accept this C++ compiler",
            why=why,
            next=f"name an older one: CUDAHOSTCXX=g++-13 {command_line('engine', 'install', '--cuda')}",
        )
    raise MissingPart(f"the CUDA compiler {nvcc} does not work", why=why, next="reinstall the CUDA toolkit")


def cuda_cards() -> tuple[tuple[int, int], ...]:
    """Compute capability of each NVIDIA card, as nvidia-smi gives it."""
    status, text = _run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"])
    if status != 0:
        return ()
    return tuple((int(major), int(minor)) for major, minor in re.findall(r"^(\d+)\.(\d+)$", text, re.M))


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


def _usual_nvcc() -> str | None:
    usual = Path("/usr/local/cuda/bin/nvcc")
    return str(usual) if usual.exists() else None


def _run(argv: Sequence[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, str(error)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def suggest() -> str:
    """The backend that suits this machine; `vulkan` for a graphics card and all that the build asks for."""
    if cuda_cards() and (shutil.which("nvcc") or _usual_nvcc()):
        return "cuda"
    try:
        if any(Path("/dev/dri").glob("renderD*")):
            _check_vulkan()
            return "vulkan"
    except MissingPart:
        pass
    return "cpu"
