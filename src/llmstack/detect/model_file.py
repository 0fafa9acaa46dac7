"""Opens a model on disk: only regular files, all shards of a split one, and an identity to check later."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.gguf import GgufError, GgufHeader, merge, printable, read_header
from llmstack.gguf.kinds import kind_of_header, other_file
from llmstack.gguf.shards import MAX_SHARDS, shard_name
from llmstack.kept_headers import kept_header


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file was when it was planned; mtime in ns."""

    path: str
    device: int
    inode: int
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ModelFile:
    """paths: all shards, the first one first."""

    header: GgufHeader
    paths: tuple[Path, ...]
    size_bytes: int
    identity: tuple[Identity, ...]

    @property
    def path(self) -> Path:
        return self.paths[0]

    def check_unchanged(self) -> None:
        """Raises BadInput when a file was replaced or changed since it was opened."""
        for then in self.identity:
            try:
                now = _identity(Path(then.path), Path(then.path).stat())
            except OSError as error:
                raise BadInput(f"{printable(then.path)} is gone: {error.strerror}", next="plan again") from None
            if now != then:
                raise BadInput(
                    f"{printable(then.path)} changed after it was planned",
                    why="the plan's memory figures are about the file as it was",
                    next=command_line("plan", printable(str(self.path))),
                )


class _FileSource:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_at(self, offset: int, length: int) -> bytes:
        pieces = []
        while length > 0:
            piece = os.pread(self._descriptor, length, offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def key_of(path: str, size_bytes: int, mtime_ns: int) -> str:
    """By which `tune`, `bench --quality` and the server's counters remember a file."""
    return f"{path}:{size_bytes}:{mtime_ns}"


def file_key(path: str) -> str:
    """A file as what is remembered of it knows it: by path, size and time of change; of one that is gone, the path."""
    try:
        stat = Path(path).stat()
    except OSError:
        return path
    return key_of(path, stat.st_size, stat.st_mtime_ns)


def open_model(path: Path | str, *, cache: Path | None = None, takes: str = "") -> ModelFile:
    """Reads the header of a model file, or of all shards of a split one.

    cache: a folder that keeps parsed headers by the file's identity, so that a large vocabulary is walked once.
    takes: a kind of gguf.kinds that will do as well: "draft" (it only guesses ahead) or "projector" (an image encoder).
    Raises BadInput for a path that is no regular file, GgufError for a file that is no usable GGUF, or no model.
    """
    path = Path(path).expanduser().absolute()
    headers, identities, paths = [], [], []
    header, identity = _open_one(path, cache)
    paths = _shards(path, header)
    headers.append(header)
    identities.append(identity)
    for shard in paths[1:]:
        header, identity = _open_one(shard, cache)
        headers.append(header)
        identities.append(identity)
    merged = merge(headers)
    refuse_others(merged, paths[0], takes=takes)
    return ModelFile(merged, tuple(paths), sum(i.size_bytes for i in identities), tuple(identities))


def refuse_others(header: GgufHeader, path: Path, *, takes: str = "") -> None:
    """Raises GgufError for what is no model to chat with: its kind, and what to give instead."""
    key = kind_of_header(header)
    if key and key != takes:
        other = other_file(key)
        raise GgufError(other.what, why=printable(str(path), 1000), next=other.next)


def _shards(path: Path, header: GgufHeader) -> list[Path]:
    count = header.split_count
    if count <= 1:
        return [path]
    shard = shard_name(path.name)
    if shard is None or shard.count != count or count > MAX_SHARDS:
        raise GgufError(
            f"{printable(path.name)} is one of {count} shards, but its name does not say so",
            why="llama.cpp finds the others by name: NAME-00001-of-00003.gguf",
            next="give the shards the names they were published under",
        )
    paths = [path.with_name(name) for name in shard.all()]
    if shard.number != 1:
        raise GgufError(f"{printable(path.name)} is not the first shard", next=f"give {printable(str(paths[0]))}")
    missing = [other.name for other in paths if not other.exists()]
    if missing:
        raise GgufError(
            f"of {count} shards these are missing: {printable(', '.join(missing), 1000)}",
            next=f"resume the download: {command_line('models', 'pull', 'NAME')}",
        )
    return paths


def _open_one(path: Path, cache: Path | None) -> tuple[GgufHeader, Identity]:
    shown = printable(str(path), 1000)
    try:
        _refuse_special(path.stat().st_mode, shown)  # before open: opening some devices has effects
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BadInput(
            f"there is no file {shown}", next=f"{command_line('models', 'list')}   shows known names"
        ) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{shown} cannot be opened: {error}") from None
    try:
        status = os.fstat(descriptor)
        _refuse_special(status.st_mode, shown)
        identity = _identity(path, status)
        return _read(descriptor, identity, cache), identity
    except GgufError as error:
        error.why = error.why or shown
        raise
    except OSError as error:
        raise BadInput(f"{shown} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _read(descriptor: int, identity: Identity, cache: Path | None) -> GgufHeader:
    def read() -> GgufHeader:
        return read_header(_FileSource(descriptor), identity.size_bytes)

    return read() if cache is None else kept_header(cache, str(identity), read)


def _refuse_special(mode: int, shown: str) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next(
        (
            name
            for test, name in (
                (stat.S_ISDIR, "a folder"),
                (stat.S_ISFIFO, "a pipe"),
                (stat.S_ISSOCK, "a socket"),
                (stat.S_ISCHR, "a device"),
                (stat.S_ISBLK, "a device"),
            )
            if test(mode)
        ),
        "no regular file",
    )
    raise BadInput(f"{shown} is {kind}, not a model file")


def _identity(path: Path, status: os.stat_result) -> Identity:
    return Identity(str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
