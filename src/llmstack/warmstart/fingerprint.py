"""What a saved state belongs to: model files, engine, KV types and every other flag that shapes it, chat template.

Two locks, so that a state of another model, build, KV type or template can never be restored:

- The folder. llama-server reads and writes states below its --slot-save-path only, and that path carries a digest of
  the engine's command and of its flags (`folder_name`). A server started with other flags cannot see the file.
- The fingerprint. What flags don't say (the bytes of the model's files, of the engine, the template in use) is digested
  when a state is saved, and compared before one is restored (`fingerprint`).

llama-server itself checks the number of layers, the KV types and the sizes of rows only (llama-kv-cache.cpp:
state_read_data), so a state of another fine-tune of the same model would be read without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from llmstack.gguf.shards import shard_name
from llmstack.llama_server.flags import flag_named

FORMAT = 1  # counts changes of what is stored beside a state
_SECRETS = frozenset({"--api-key-file"})


def folder_name(argv: Sequence[str]) -> str:
    """A name for the states of one engine command with one set of flags."""
    return _digest([FORMAT, *shaping(argv)])[:16]


def shaping(argv: Sequence[str]) -> Iterator[str]:
    """The words of a command line that shape a state, in their order. A flag that is not in the table counts."""
    words = iter(argv)
    for word in words:
        flag = flag_named(word)
        if flag is None or flag.shapes_state:
            yield word
        elif flag.takes_value:
            next(words, None)


def fingerprint(argv: Sequence[str], template: str) -> str:
    """A digest of the files the server was started from, as they are now, and of the template it renders with.

    Raises OSError when one of them cannot be looked at.
    """
    parts: list[Any] = [FORMAT, hashlib.sha256(template.encode()).hexdigest(), _embedded(argv)]
    for path in _files(argv):
        status = path.stat()
        parts.append([str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns])
    return _digest(parts)


def _files(argv: Sequence[str]) -> list[Path]:
    """Every file a command line names, all shards of a split model, and the libraries beside a llama-server."""
    files: dict[Path, None] = {}
    skip = False
    for number, word in enumerate(argv):
        if skip or not word.startswith("/"):
            skip = word in _SECRETS
            continue
        path = Path(word)
        if not path.is_file():
            continue
        files[path] = None
        for other in _shards(path) if number else _libraries(path):
            files[other] = None
    return list(files)


def _shards(path: Path) -> Iterable[Path]:
    shard = shard_name(path.name)
    return [path.with_name(name) for name in shard.all()] if shard is not None else ()


def _libraries(program: Path) -> Iterable[Path]:
    if "llama" not in program.name:
        return ()
    return sorted(path for pattern in ("libllama*", "libggml*") for path in program.parent.glob(pattern))


def _embedded(argv: Sequence[str]) -> str:
    """The build inside the wheel, for the engine that runs inside Python."""
    if "llmstack.engine.embedded" not in argv:
        return ""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("xllamacpp")
    except PackageNotFoundError:
        return "unknown"


def _digest(parts: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
