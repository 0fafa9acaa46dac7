"""Which CUDA compiler a build takes: this machine's own where it is whole, else NVIDIA's wheels (`cuda_wheels`)."""

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
from llmstack.engine import cuda_wheels
from llmstack.errors import MissingPart

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


@dataclass(frozen=True, slots=True)
class CudaPlan:
    """What a CUDA build compiles with and for.

    nvcc: this machine's own compiler, empty where the wheels are used. why_wheels: why it is not used.
    architectures: in CMake's form (`86-real`). cards: how many NVIDIA cards are here to try the build on.
    """

    nvcc: str
    architectures: tuple[str, ...]
    cards: int = 0
    why_wheels: str = ""

    @property
    def untried(self) -> str:
        """What a build on a machine without a card owes its user: that nobody saw it compute on one."""
        if self.cards:
            return ""
        names = ", ".join(f"sm_{name.partition('-')[0]}" for name in self.architectures)
        return f"built for {names}, not run on a card: none here"


def plan() -> CudaPlan:
    """Compiler and architectures for the cards that are here, or for those that CUDAARCHS names.

    Raises MissingPart where there is nothing to compile for, or nothing to compile with.
    """
    cards = cuda_cards()
    named = tuple(part for part in os.environ.get("CUDAARCHS", "").split(";") if part)
    if not cards and not named:
        raise MissingPart(
            "no NVIDIA card can be seen here, so there is nothing to compile for",
            why="nvidia-smi names none: its driver is missing, or this container was not given the card",
            next=(
                "install the driver; or name the architecture: "
                f"CUDAARCHS=86-real {command_line('engine', 'install', '--cuda', '--build')}"
            ),
        )
    architectures = named or tuple(sorted({f"{major}{minor}-real" for major, minor in cards}))
    targets = tuple(capability for name in named if (capability := _capability(name))) or cards
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc") or _usual_nvcc()
    problem = problem_of(nvcc, targets) if nvcc else _no_nvcc()
    if nvcc and problem is None:
        return CudaPlan(nvcc, architectures, len(cards))
    assert problem is not None
    if os.environ.get("CUDACXX"):
        raise problem  # the user's own choice is not replaced by another
    old = [card for card in targets if card < cuda_wheels.OLDEST_CARD]
    if old:
        raise MissingPart(
            f"CUDA 13 does not compile for compute capability {old[0][0]}.{old[0][1]}, and no CUDA 12 toolkit is here",
            why=problem.what,
            next=(
                f"{command_line('engine', 'install', '--cuda')}   takes llama.cpp's prebuilt CUDA 12 archive; "
                "to compile, install a CUDA 12 toolkit (developer.nvidia.com/cuda-toolkit-archive)"
            ),
        )
    why_none = cuda_wheels.why_none_here()
    if why_none:
        raise MissingPart(problem.what, why=f"NVIDIA has none on PyPI for this machine: {why_none}", next=problem.next)
    driver = driver_branch() if cards else None
    if driver is not None and driver < cuda_wheels.OLDEST_DRIVER:
        raise MissingPart(
            f"the NVIDIA driver {driver} is too old for what CUDA 13 compiles",
            why=f"{problem.what}, and PyPI's CUDA 13 needs driver {cuda_wheels.OLDEST_DRIVER} or newer",
            next=(
                f"update the driver, or install a CUDA 12 toolkit, or: {command_line('engine', 'install', '--vulkan')}"
            ),
        )
    return CudaPlan("", architectures, len(cards), problem.what)


def problem_of(nvcc: str, cards: Sequence[tuple[int, int]]) -> MissingPart | None:
    """Why this nvcc cannot build for these cards: too old or too new for one, or not whole. None: it can."""
    match = re.search(r"release (\d+)\.(\d+)", output_of([nvcc, "--version"])[1])
    if match is None:
        return MissingPart(f"{nvcc} does not say which release it is", next="reinstall the CUDA toolkit")
    for card in cards:
        words = too_old((int(match[1]), int(match[2])), card)
        if words:
            return MissingPart(
                words,
                next=(
                    "install that CUDA toolkit and put its nvcc first on "
                    f"PATH, or: {command_line('engine', 'install', '--vulkan')}"
                ),
            )
    return compile_problem(nvcc)


def too_old(nvcc: tuple[int, int], card: tuple[int, int]) -> str:
    """Why this nvcc cannot compile for this card (compute capability), or an empty string."""
    if nvcc >= (13, 0) and card < cuda_wheels.OLDEST_CARD:
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


def compile_problem(nvcc: str) -> MissingPart | None:
    """Compiles one line that needs cuBLAS. Some packages hold nvcc alone, and not every C++ compiler will do."""
    with tempfile.TemporaryDirectory(prefix="llmstack-") as folder:
        source = Path(folder) / "check.cu"
        source.write_text("#include <cublas_v2.h>\nint main() { return 0; }\n")
        host = os.environ.get("CUDAHOSTCXX", "")
        chosen = ["-ccbin", host] if host else []
        status, output = output_of(
            [nvcc, *chosen, "-std=c++17", "-c", str(source), "-o", str(Path(folder) / "check.o")]
        )
    if status == 0:
        return None
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    why = next((line for line in lines if "error" in line), lines[0] if lines else f"exit status {status}")
    if "cublas_v2.h" in why:
        return MissingPart(
            "the CUDA toolkit is not complete: cuBLAS is missing",
            why=why,
            next=(
                "install all of it (developer.nvidia.com/cuda-downloads), "
                f"or: {command_line('engine', 'install', '--vulkan')}"
            ),
        )
    if "unsupported GNU version" in output or "host compiler" in output:
        why = next((line for line in lines if "unsupported" in line), why)
        return MissingPart(
            "nvcc does not accept this C++ compiler",
            why=why,
            next=(
                f"name an older one: CUDAHOSTCXX={_older_compiler()} "
                f"{command_line('engine', 'install', '--cuda', '--build')}"
            ),
        )
    return MissingPart(f"the CUDA compiler {nvcc} does not work", why=why, next="reinstall the CUDA toolkit")


def cuda_cards() -> tuple[tuple[int, int], ...]:
    """Compute capability of each NVIDIA card, as nvidia-smi gives it."""
    status, text = output_of(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"])
    if status != 0:
        return ()
    return tuple((int(major), int(minor)) for major, minor in re.findall(r"^(\d+)\.(\d+)$", text, re.M))


def driver_branch() -> int | None:
    """The first part of the driver's version (580 of 580.95.05); None where nvidia-smi does not say."""
    status, text = output_of(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    match = re.match(r"(\d{3,})\.\d+", text.strip()) if status == 0 else None
    return int(match[1]) if match else None


def output_of(argv: Sequence[str]) -> tuple[int, str]:
    """Exit status and both outputs of a short command; -1 with the reason where it could not be run."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, str(error)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def has_nvcc() -> bool:
    """Whether this machine has a CUDA compiler of its own, whole or not."""
    return bool(shutil.which("nvcc") or _usual_nvcc())


def _no_nvcc() -> MissingPart:
    return MissingPart(
        "there is no CUDA compiler (nvcc)",
        why="a CUDA build needs the toolkit, not only the driver",
        next=(
            "install the CUDA toolkit (developer.nvidia.com/cuda-downloads), "
            f"or: {command_line('engine', 'install', '--vulkan')}"
        ),
    )


def _capability(architecture: str) -> tuple[int, int] | None:
    """8.6 of `86-real`, 12.0 of `120a`; None of `native` and `all-major`, which CMake resolves itself."""
    match = re.match(r"(\d+)(\d)[af]?(?:-|$)", architecture)
    return (int(match[1]), int(match[2])) if match else None


def _older_compiler() -> str:
    """The newest g++ here that CUDA 13.4 accepts (up to 16: crt/host_config.h), or an example."""
    return next((name for version in range(16, 8, -1) if shutil.which(name := f"g++-{version}")), "g++-13")


def _usual_nvcc() -> str | None:
    usual = Path("/usr/local/cuda/bin/nvcc")
    return str(usual) if usual.exists() else None
