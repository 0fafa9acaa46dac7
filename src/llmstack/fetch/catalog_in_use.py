"""Which fetched catalog counts, and its text: a plan reads this, and nothing that fetches."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import msgspec

from llmstack.paths import Home


class TakenCatalog(msgspec.Struct, frozen=True):
    """source: address or path. taken_at: ISO, UTC. newest: the last day on which one of its entries was looked up."""

    source: str
    sha256: str
    taken_at: str
    newest: str


class CatalogState(msgspec.Struct, frozen=True):
    """current: None for the shipped one alone. before: what `back` goes to; None: to the shipped one."""

    current: TakenCatalog | None = None
    before: TakenCatalog | None = None


def state(home: Home) -> CatalogState:
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((home.data / "catalog" / "taken.json").read_bytes(), type=CatalogState)
    return CatalogState()


def text_in_use(home: Home) -> bytes | None:
    """The fetched catalog; None without one, and where its bytes are not those that were checked."""
    return text_of(home, state(home).current)


def text_of(home: Home, one: TakenCatalog | None) -> bytes | None:
    if one is None:
        return None
    with suppress(OSError):
        text = place_of(home, one.sha256).read_bytes()
        if hashlib.sha256(text).hexdigest() == one.sha256:
            return text
    return None


def place_of(home: Home, sha256: str) -> Path:
    return home.data / "catalog" / f"{sha256[:16]}.toml"
