"""Finds model files that other programs already have, to use them in place: read, never changed, never removed.

Hugging Face's cache, llama.cpp's, LM Studio's folder, Ollama's store. Only a file of the right name (or
digest) and the right size counts; what is still being downloaded there does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from llmstack.catalog.models import quant_of


@dataclass(frozen=True, slots=True)
class FileQuery:
    """One file that is looked for. size: bytes, 0 when only about known; sha256: empty when unknown."""

    repo: str
    file: str
    revision: str = "main"
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class ForeignCaches:
    """Where other programs keep their files on this machine."""

    hub: tuple[Path, ...] = ()
    llama_cpp: tuple[Path, ...] = ()
    lm_studio: tuple[Path, ...] = ()
    ollama: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignFile:
    path: Path
    store: str


class _Layer(msgspec.Struct):
    media_type: str = msgspec.field(name="mediaType", default="")
    digest: str = ""
    size: int = 0


class _Manifest(msgspec.Struct):
    layers: list[_Layer] = []


def on_this_machine(environment: Mapping[str, str] | None = None, home: Path | None = None) -> ForeignCaches:
    """The folders those programs use, by their own settings (environment variables), as far as they exist."""
    env = os.environ if environment is None else environment
    user = home or Path.home()
    cache = Path(env.get("XDG_CACHE_HOME") or user / ".cache")
    hf_home = Path(env.get("HF_HOME") or cache / "huggingface")
    hub = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or str(hf_home / "hub")
    llama = env.get("LLAMA_CACHE") or str(cache / "llama.cpp")
    studio = (user / ".lmstudio" / "models", cache / "lm-studio" / "models")
    ollama = (env.get("OLLAMA_MODELS") or str(user / ".ollama" / "models"), "/usr/share/ollama/.ollama/models")
    return ForeignCaches(_real([hub]), _real([llama]), _real(studio), _real(ollama))


def find(query: FileQuery, caches: ForeignCaches) -> ForeignFile | None:
    """The first store that has the file whole."""
    for path, store in _candidates(query, caches):
        try:
            real = path.resolve(strict=True)
            if not real.is_file() or (query.size and real.stat().st_size != query.size):
                continue
            with real.open("rb") as stream:
                if stream.read(4) != b"GGUF":
                    continue
        except OSError:
            continue
        return ForeignFile(path, store)
    return None


def _candidates(query: FileQuery, caches: ForeignCaches) -> Iterator[tuple[Path, str]]:
    owner, _, name = query.repo.partition("/")
    for folder in caches.hub:
        repo = folder / f"models--{owner}--{name}"
        commit = _text(repo / "refs" / query.revision) or query.revision
        if "/" not in commit and commit not in ("", ".", ".."):
            yield repo / "snapshots" / commit / query.file, "Hugging Face cache"
        for snapshot in sorted((repo / "snapshots").glob("*")):
            yield snapshot / query.file, "Hugging Face cache"
        if query.sha256:
            yield repo / "blobs" / query.sha256, "Hugging Face cache"
    file = query.file.rpartition("/")[2]
    for folder in caches.llama_cpp:
        # `-hf OWNER/REPO` of builds before the shared cache: OWNER_REPO_FILE (common_download_… in common/arg.cpp)
        yield folder / f"{owner}_{name}_{file}", "llama.cpp cache"
        yield folder / file, "llama.cpp cache"
    for folder in caches.lm_studio:
        yield folder / owner / name / query.file, "LM Studio"
        yield folder / owner / name / file, "LM Studio"
    for folder in caches.ollama:
        if query.sha256:
            yield folder / "blobs" / f"sha256-{query.sha256}", "Ollama"
        # `ollama pull hf.co/OWNER/REPO:QUANT` keeps the repository's own file
        quant = quant_of(file)
        for manifest in sorted((folder / "manifests").glob(f"h*/{owner}/{name}/*")):
            if quant and manifest.name.lower() == quant.lower():
                yield from ((blob, "Ollama") for blob in _model_blobs(folder, manifest))


def _model_blobs(folder: Path, manifest: Path) -> Iterator[Path]:
    try:
        layers = msgspec.json.decode(manifest.read_bytes()[: 1 << 20], type=_Manifest).layers
    except (OSError, msgspec.DecodeError):
        return
    for layer in layers:
        algorithm, _, digest = layer.digest.partition(":")
        if layer.media_type.endswith("image.model") and algorithm == "sha256" and digest.isalnum():
            blob = folder / "blobs" / f"sha256-{digest}"
            if blob.is_file() and blob.stat().st_size == layer.size:
                yield blob


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")[:200].strip()
    except OSError:
        return ""


def _real(paths: tuple[Path | str, ...] | list[str]) -> tuple[Path, ...]:
    return tuple(Path(path).expanduser() for path in paths if Path(path).expanduser().is_dir())
