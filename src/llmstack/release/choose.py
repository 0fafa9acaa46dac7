"""Which archive of a release a machine can run, and why not another. Pure.

| archive                    | C library | driver                                                                    |
| -------------------------- | --------- | ------------------------------------------------------------------------- |
| CPU, Vulkan for x86-64     | 2.35      | built on Ubuntu 22.04                                                     |
| all others for Linux       | 2.39      | built on Ubuntu 24.04                                                     |
| CUDA 12.x                  | 2.39      | 525 or newer (NVIDIA, minor version compatibility)                        |
| CUDA 13.x                  | 2.39      | 580 or newer; cards of compute capability 7.5 and newer                   |

An archive holds finished code for some cards (ggml/src/ggml-cuda/CMakeLists.txt); for others the driver compiles its
PTX, and only a driver that reports that version of CUDA or a newer one can ("compiled with an unsupported toolchain").
"""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.commands import command_line
from llmstack.errors import MissingPart
from llmstack.release.assets import BACKENDS, Archive, Release, Version, archives, kinds, version_text

OLD_GLIBC, NEW_GLIBC = (2, 35), (2, 39)
LEAST_DRIVER = {12: 525, 13: 580}
LEAST_CARD = {12: (5, 0), 13: (7, 5)}
FINISHED = {12: ((8, 6), (8, 9), (12, 0)), 13: ((8, 6), (8, 9), (12, 0), (12, 1))}
CONDA = "conda-forge's llama.cpp (conda install -c conda-forge llama.cpp) runs from glibc 2.17 on"


@dataclass(frozen=True, slots=True)
class NvidiaDriver:
    """major: 580 of 580.65.06. cuda: the version that it reports. cards: name and compute capability of each."""

    major: int
    cuda: Version
    cards: tuple[tuple[str, tuple[int, int]], ...]


@dataclass(frozen=True, slots=True)
class Host:
    """system: linux or darwin; processor: as `uname -m` says it. glibc None: another C library.

    has_gpu: a graphics card that Vulkan may reach.
    """

    system: str
    processor: str
    glibc: Version | None
    nvidia: NvidiaDriver | None = None
    has_gpu: bool = False


def backend_for(host: Host) -> str:
    """What suits a machine unless its owner says otherwise.

    AMD's and Intel's cards get Vulkan: it decodes faster on most of them than ROCm and SYCL do, and needs no runtime.
    """
    if host.nvidia is not None and "cuda" in kinds(host.system, host.processor):
        return "cuda"
    return "vulkan" if host.has_gpu and "vulkan" in kinds(host.system, host.processor) else "cpu"


def choose(release: Release, host: Host, backend: str) -> Archive:
    """The archive of this backend for this machine. Raises MissingPart with the reason, and what works instead."""
    _check_system(host, backend)
    _check_glibc(host, backend)
    choices = archives(release, host.system, host.processor, backend)
    if not choices:
        raise MissingPart(
            f"the release {release.tag} has no {_name(backend)} archive for {host.system} on {host.processor}",
            why=f"it has {len(release.assets)} files" if release.assets else "it has no files at all",
            next=f"{command_line('engine', 'install', '--build', f'--{backend}')}   compiles it, or another: --tag TAG",
        )
    archive = _cuda(choices, host) if backend == "cuda" else choices[0]
    if backend == "cuda" and archive.companion is None:
        raise MissingPart(
            f"the release {release.tag} lacks the CUDA libraries for {archive.asset.name}",
            why="cudart, cublas and cublasLt come in an archive of their own (cudart-llama-…), and it is not there",
            next=f"{command_line('engine', 'install', '--cuda', '--tag', 'TAG')}   takes another release",
        )
    return archive


def _name(backend: str) -> str:
    return {"cpu": "CPU", "cuda": "CUDA", "vulkan": "Vulkan", "rocm": "ROCm", "sycl": "SYCL"}[backend]


def _check_system(host: Host, backend: str) -> None:
    here = kinds(host.system, host.processor)
    if backend in here:
        return
    others = [name for name in BACKENDS if name in here]
    have = f"there are archives for {', '.join(map(_name, others))}" if others else "there is none for such a machine"
    raise MissingPart(
        f"llama.cpp releases no {_name(backend)} build for {host.system} on {host.processor}",
        why=have,
        next=f"{command_line('engine', 'install', '--build')}   compiles one here",
    )


def _check_glibc(host: Host, backend: str) -> None:
    if host.system != "linux":
        return
    needed = OLD_GLIBC if host.processor == "x86_64" and backend in ("cpu", "vulkan") else NEW_GLIBC
    if host.glibc is not None and host.glibc >= needed:
        return
    here = f"glibc {version_text(host.glibc)}" if host.glibc is not None else "another C library than glibc (musl?)"
    build = command_line("engine", "install", "--build", f"--{backend}")
    ways = [f"{build}   compiles one here"]
    if backend != "vulkan" and host.processor == "x86_64" and host.glibc is not None and host.glibc >= OLD_GLIBC:
        ways.append(f"{command_line('engine', 'install', '--vulkan')}   runs here")
    if backend == "cuda":
        ways.append(CONDA)
    raise MissingPart(
        f"the released {_name(backend)} build needs glibc {version_text(needed)}, and this machine has {here}",
        why="it is built on a newer Ubuntu than this system",
        next="; ".join(ways),
    )


def _cuda(choices: tuple[Archive, ...], host: Host) -> Archive:
    """The newest version of CUDA that driver and cards take. Without a driver the newest: for another machine."""
    driver = host.nvidia
    if driver is None:
        raise MissingPart(
            "no NVIDIA driver answers here, so the CUDA build would compute on the processor",
            why="NVML names no card: the driver is missing, or this container was not given the card",
            next=f"install the driver; or {command_line('engine', 'install', '--cpu')}",
        )
    reasons = []
    for archive in choices:
        reason = _why_not(archive.version, driver)
        if not reason:
            return archive
        reasons.append(f"CUDA {version_text(archive.version)}: {reason}")
    raise MissingPart(
        "no CUDA build of this release runs with this driver and card",
        why="; ".join(reasons),
        next=f"update the NVIDIA driver to {LEAST_DRIVER[13]}; or {command_line('engine', 'install', '--vulkan')}",
    )


def _why_not(version: Version, driver: NvidiaDriver) -> str:
    major = version[0]
    if major not in LEAST_DRIVER:
        return "not known to this release of llmstack"
    old = next((name for name, capability in driver.cards if capability < LEAST_CARD[major]), None)
    if old is not None:
        return f"it has no code for {old}"
    if driver.major < LEAST_DRIVER[major]:
        return f"it needs driver {LEAST_DRIVER[major]}, and {driver.major} is here"
    compiled = next((name for name, capability in driver.cards if capability not in FINISHED[major]), None)
    if compiled is not None and driver.cuda < version:
        reported = version_text(driver.cuda) or "no version"
        return (
            f"its code for {compiled} is compiled by the driver, which must report CUDA {version_text(version)} for "
            f"that and reports {reported}"
        )
    return ""
