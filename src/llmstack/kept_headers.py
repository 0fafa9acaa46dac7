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
    key = hashlib.sha256(f"{CACHE_FORMAT}|{identity}".encode()).hexdigest()[:32]
    entry = cache / "headers" / f"{key}.msgpack"
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.msgpack.decode(entry.read_bytes(), type=GgufHeader)
    header = read()
    write_cached(entry, msgspec.msgpack.encode(header))
    return header
