"""The names of a release's archives (llama.cpp, .github/workflows/release.yml; seen from b11026 to b12110). Pure.

Versions of CUDA and ROCm are parts of the names and move, so all of it is matched by pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# What this release of llmstack installs unless told otherwise: `stable` is what GitHub calls the latest one; a b-tag
# pins one build.
DEFAULT_TAG = "stable"
REPOSITORY = "ggml-org/llama.cpp"
BACKENDS = ("cpu", "cuda", "vulkan", "rocm", "sycl")
LIBRARY = {"cuda": "cuda", "vulkan": "vulkan", "rocm": "hip", "sycl": "sycl"}
"""libggml-NAME.so of a backend."""

_KINDS = {
    # (system, processor, backend): what stands between `-bin-` and `.tar.gz`
    ("linux", "x86_64", "cpu"): r"ubuntu-x64",
    ("linux", "x86_64", "cuda"): r"ubuntu-cuda-(?P<version>\d+\.\d+)-x64",
    ("linux", "x86_64", "vulkan"): r"ubuntu-vulkan-x64",
    ("linux", "x86_64", "rocm"): r"ubuntu-rocm-(?P<version>\d+\.\d+)-x64",
    ("linux", "x86_64", "sycl"): r"ubuntu-sycl-fp16-x64",
    ("linux", "aarch64", "cpu"): r"ubuntu-arm64",
    ("linux", "aarch64", "cuda"): r"ubuntu-cuda-(?P<version>\d+\.\d+)-arm64",
    ("linux", "aarch64", "vulkan"): r"ubuntu-vulkan-arm64",
    ("linux", "s390x", "cpu"): r"ubuntu-s390x",
    ("darwin", "arm64", "cpu"): r"macos-arm64",
    ("darwin", "x86_64", "cpu"): r"macos-x64",
}
TAG = re.compile(r"b(\d{4,6})")

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of a release. size in bytes; sha256: as the API states it, empty where it states none."""

    name: str
    url: str
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """tag: b12345, with binaries; the SemVer releases carry none."""

    tag: str
    assets: tuple[Asset, ...]

    @property
    def build(self) -> int:
        return build_of(self.tag)


@dataclass(frozen=True, slots=True)
class Archive:
    """version: of CUDA or ROCm, empty for the others. companion: the archive with its libraries, None where it needs
    none or where the release lacks it."""

    asset: Asset
    backend: str
    version: Version = ()
    companion: Asset | None = None


def build_of(tag: str) -> int:
    """The build number of a b-tag; 0 for another name."""
    match = TAG.fullmatch(tag)
    return int(match[1]) if match is not None else 0


def kinds(system: str, processor: str) -> tuple[str, ...]:
    """The backends that are released for a system and processor."""
    return tuple(backend for os, cpu, backend in _KINDS if (os, cpu) == (system, processor))


def archives(release: Release, system: str, processor: str, backend: str) -> tuple[Archive, ...]:
    """Those of this kind, the newest version first; empty where the release has none."""
    return tuple(sorted(_archives(release, system, processor, backend), key=lambda one: one.version, reverse=True))


def _archives(release: Release, system: str, processor: str, backend: str) -> Iterator[Archive]:
    kind = _KINDS.get((system, processor, backend))
    if kind is None:
        return
    tag = re.escape(release.tag)
    for asset in release.assets:
        match = re.fullmatch(rf"llama-{tag}-bin-(?P<kind>{kind})\.tar\.gz", asset.name)
        if match is None:
            continue
        version = match.groupdict().get("version") or ""
        companion = _named(release.assets, f"cudart-llama-{release.tag}-bin-{match['kind']}.tar.gz")
        yield Archive(asset, backend, version_of(version), companion if backend == "cuda" else None)


def of_file(name: str) -> tuple[str, str, Version] | None:
    """(tag, backend, version) of an archive by its file name; None for another file."""
    match = re.fullmatch(r"llama-(?P<tag>b\d{4,6})-bin-(?P<rest>[\w.-]+)\.tar\.gz", name)
    if match is None:
        return None
    for (_, _, backend), kind in _KINDS.items():
        suits = re.fullmatch(kind, match["rest"])
        if suits is not None:
            return match["tag"], backend, version_of(suits.groupdict().get("version") or "")
    return None


def version_of(text: str) -> Version:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def version_text(version: Version) -> str:
    return ".".join(map(str, version))


def _named(assets: Sequence[Asset], name: str) -> Asset | None:
    return next((asset for asset in assets if asset.name == name), None)
