"""A model as files: where each comes from, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmstack.catalog.models import Model


@dataclass(frozen=True, slots=True)
class Source:
    """Where one file comes from: a repository's file, or a URL. size and sha256 as far as the catalog says."""

    name: str
    repo: str = ""
    file: str = ""
    revision: str = "main"
    url: str = ""
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that was named. path: its file, the first shard of a split one; None while it is not here.

    name: the catalog's name, else the file's. quant: the size that was chosen. entry: the catalog's, None for
    a file of one's own. paths: all shards. mmproj: its image encoder. store: where it was found ("own" for the
    stack's). sources: what to download, empty for a plain path. missing: those of them that are not here.
    """

    name: str
    path: Path | None
    entry: Model | None = None
    quant: str = ""
    paths: tuple[Path, ...] = ()
    mmproj: Path | None = None
    store: str = ""
    sources: tuple[Source, ...] = ()
    missing: tuple[Source, ...] = ()
    projector: Source | None = None
