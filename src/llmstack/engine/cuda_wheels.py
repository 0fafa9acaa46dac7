"""NVIDIA's compiler and libraries from PyPI, for a CUDA build on a machine without a whole CUDA toolkit.

The six wheels of `cuda-requirements.txt` (locked by hash) lie in a folder of the cache that is named by the lock's
hash: no root, nothing outside it, and the next build finds them. In a wheel all is below `nvidia/cu13`: no `lib64`,
no stubs, no libcuda, and libraries by their full name only, so CMake gets links and a few arguments.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LOCK = Path(__file__).with_name("cuda-requirements.txt")
OLDEST_CARD = (7, 5)
"""CUDA 13 compiles for compute capability 7.5 and newer only (its release notes: Maxwell, Pascal, Volta removed)."""

OLDEST_DRIVER = 580
"""The first driver branch that runs what CUDA 13 compiled (docs.nvidia.com/deploy/cuda-compatibility)."""

OLDEST_GLIBC = (2, 27)
"""Of the cuBLAS wheel (manylinux_2_27); the others run on older ones."""

_LIBRARIES = ("libcudart", "libcublas", "libcublasLt")
_DRIVER_FOLDERS = ("/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/lib/wsl/lib", "/usr/local/lib")


@dataclass(frozen=True, slots=True)
class CudaWheels:
    """root: the folder that CMake calls CUDAToolkit_ROOT."""

    root: Path

    @property
    def nvcc(self) -> Path:
        return self.root / "bin" / "nvcc"

    def cmake_args(self, driver: Path | None) -> tuple[str, ...]:
        """driver: libcuda.so where one is here to link with.

        Without it ggml's memory pool that grows in place (VMM, the only caller of the driver itself) is left out.
        CCCL is the wheel's: with a version named CMake would clone it from GitHub.
        """
        return (
            f"-DCMAKE_CUDA_COMPILER={self.nvcc}",
            f"-DCUDAToolkit_ROOT={self.root}",
            "-DGGML_CUDA_CCCL_VERSION=",
            f"-DCUDA_cuda_driver_LIBRARY={driver}" if driver else "-DGGML_CUDA_NO_VMM=ON",
        )

    def linker_flags(self, given: str = "") -> str:
        """LDFLAGS: where the linker finds what libggml-cuda.so itself needs, when it links a program with it.

        The RPATH of the build ($ORIGIN) says it for the finished folder only, and no system folder has cuBLAS.
        """
        return f"{given} -Wl,-rpath-link,{shlex.quote(str(self.root / 'lib'))}".strip()

    def libraries(self) -> tuple[Path, ...]:
        """The three that a built program loads, under the names that it asks for (libcudart.so.13)."""
        libraries = []
        for name in _LIBRARIES:
            numbered = [path for path in (self.root / "lib").iterdir() if re.fullmatch(rf"{name}\.so\.\d+", path.name)]
            if len(numbered) != 1:
                raise FileNotFoundError(f"{self.root / 'lib'} holds {len(numbered)} files named {name}.so.N, not one")
            libraries.append(numbered[0])
        return tuple(libraries)

    def link_libraries(self) -> None:
        """The names without a number, by which a linker finds them."""
        for library in self.libraries():
            link = library.with_name(library.name.rpartition(".")[0])
            link.unlink(missing_ok=True)
            link.symlink_to(library.name)

    def put_beside(self, programs: Path) -> None:
        """Gives a build its CUDA libraries, as llama.cpp's releases do: its RPATH is $ORIGIN.

        Hard links where the cache lies on the same disk (600 MB), else copies.
        """
        for library in self.libraries():
            target = programs / library.name
            target.unlink(missing_ok=True)
            try:
                os.link(library, target)
            except OSError:
                shutil.copy2(library, target)


def folder_of(tools: Path, lock: Path | None = None) -> Path:
    """Where the wheels of this lock lie."""
    return tools / f"cuda-{hashlib.sha256((lock or LOCK).read_bytes()).hexdigest()[:16]}"


def ready(tools: Path, install: Callable[[Sequence[str]], None], lock: Path | None = None) -> CudaWheels:
    """The wheels, from the cache or put there now.

    install: runs pip with these arguments after `pip install`; what it raises is passed on and leaves nothing behind.
    A folder is complete when it has its mark: what was cut short is fetched anew. Wheels of other locks go.
    """
    folder = folder_of(tools, lock)
    wheels = CudaWheels(folder / "nvidia" / "cu13")
    if (folder / "complete").is_file():
        return wheels
    for old in tools.glob("cuda-*"):
        shutil.rmtree(old, ignore_errors=True)
    try:
        # no pip cache: it would keep 570 MB a second time
        install(["--require-hashes", "--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--target", str(folder),
                 "-r", str(lock or LOCK)])  # fmt: skip
        wheels.link_libraries()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    (folder / "complete").touch()
    return wheels


def why_none_here(system: str | None = None, machine: str | None = None, libc: tuple[str, str] | None = None) -> str:
    """Why the wheels do not run on this machine, or an empty string. libc: as platform.libc_ver gives it."""
    system, machine = system or platform.system(), machine or platform.machine()
    name, version = libc or platform.libc_ver()
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        return f"its wheels are for Linux on x86_64 and aarch64, and this is {system} on {machine}"
    if name != "glibc":
        return "its wheels need glibc, and this system has another C library (musl)"
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_GLIBC:
        return f"its wheels need glibc {OLDEST_GLIBC[0]}.{OLDEST_GLIBC[1]}, and this system has {version}"
    return ""


def driver_library(machine: str | None = None) -> Path | None:
    """The driver's libcuda.so where a linker can be given it."""
    for folder in _DRIVER_FOLDERS:
        library = Path(folder.format(machine=machine or platform.machine())) / "libcuda.so"
        if library.exists():
            return library
    return None
