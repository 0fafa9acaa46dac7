"""Parsed headers in the cache folder: of files here, and of files on a hub, each by what the file is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from llmstack.gguf import GgufHeader
from llmstack.paths import write_cached

CACHE_FORMAT = 1  # counts changes of GgufHeader


def kept_header(cache: Path, identity: str, read: Callable[[], GgufHeader]) -> GgufHeader:
    """A parsed header from the cache, by what the file is; else it is read, and kept."""
    before = header_from_before(cache, identity)
    if before is not None:
        return before
    header = read()
    write_cached(_entry(cache, identity), msgspec.msgpack.encode(header))
    return header


def header_from_before(cache: Path, identity: str) -> GgufHeader | None:
    """A header that was read before; None where it was not, or is not kept any more."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.msgpack.decode(_entry(cache, identity).read_bytes(), type=GgufHeader)
    return None


def _entry(cache: Path, identity: str) -> Path:
    key = hashlib.sha256(f"{CACHE_FORMAT}|{identity}".encode()).hexdigest()[:32]
    return cache / "headers" / f"{key}.msgpack"
