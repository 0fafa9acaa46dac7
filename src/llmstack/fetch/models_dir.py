"""The stack's own store of models: data/models/OWNER/REPO/FILE, and a record beside each file.

A record says where a file came from and what its SHA-256 was; a file without one is a stranger's and is left alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from llmstack.errors import BadInput, NotSo
from llmstack.fetch.progress import OnTransfer, Stage, TransferProgress, quiet
from llmstack.paths import Home, write_atomic

COMMIT = re.compile(r"\b[0-9a-f]{40}\b")


class FileRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """source: the URL it came from. checked_at: when the SHA-256 was last computed (ISO, UTC).

    mtime_ns, size: of the file then; a file that changed since is not trusted.
    """

    source: str
    size: int
    sha256: str
    mtime_ns: int = 0
    checked_at: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """One file of the store; partial: an unfinished download of `size` bytes so far."""

    path: Path
    size: int
    partial: bool = False
    record: FileRecord | None = None


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """ok: None when there is no digest to compare with."""

    path: Path
    ok: bool | None
    sha256: str
    expected: str
    why: str = ""


def place(home: Home, repo: str, file: str) -> Path:
    """Where a file of a repository goes."""
    return _inside(home, home.models / repo / file)


def place_of_url(home: Home, url: str, file: str) -> Path:
    """Where a file from a plain URL goes: by host, and by a hash of the address, so that two never collide."""
    host = (urlsplit(url).hostname or "unknown").replace(":", "_")
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    return _inside(home, home.models / "url" / f"{host}-{digest}" / file)


def _inside(home: Home, path: Path) -> Path:
    if ".." in path.parts or not path.is_relative_to(home.models):
        raise BadInput(f"{path} is outside the model folder")
    return path


def record_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def read_record(path: Path) -> FileRecord | None:
    try:
        return msgspec.json.decode(record_path(path).read_bytes(), type=FileRecord)
    except (OSError, msgspec.DecodeError):
        return None


def write_record(path: Path, source: str, sha256: str, name: str = "", *, bytes_at: Path | None = None) -> FileRecord:
    """bytes_at: where the file is now, before it gets its name."""
    status = (bytes_at or path).stat()
    record = FileRecord(source, status.st_size, sha256, status.st_mtime_ns, _now(), name)
    write_atomic(record_path(path), msgspec.json.encode(record), 0o644)
    return record


def link_same(home: Home, repo: str, file: str, sha256: str, target: Path) -> FileRecord | None:
    """A file of another commit that is here with the very bytes that are wanted, under a second name; None without one.

    A commit changes with any file of its repository, so most files of two commits are the same.
    """
    if not sha256 or target.exists():
        return None
    plain = place(home, repo, file)
    folder = home.models / repo
    others = (commit / file for commit in sorted(folder.parent.glob(f"{folder.name}@*")))
    for here in (plain, *others):
        record = read_record(here)
        if record is None or record.sha256 != sha256 or here == target or not _is_as_recorded(here, record):
            continue
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.link(here, target)
        return record
    return None


def _is_as_recorded(path: Path, record: FileRecord) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (record.size, record.mtime_ns)


def contents(home: Home) -> tuple[Stored, ...]:
    """Every model file of the store, and every unfinished one."""
    files = []
    if not home.models.is_dir():
        return ()
    for path in sorted(home.models.rglob("*.gguf*")):
        if not path.is_file() or path.is_symlink():
            continue
        if (path.name.startswith(".") and path.name.endswith(".part")) or path.name.endswith(".quarantined"):
            files.append(Stored(path, path.stat().st_size, partial=True))
        elif path.suffix == ".gguf" and not path.name.startswith("."):
            files.append(Stored(path, path.stat().st_size, record=read_record(path)))
    return tuple(files)


def digest_of(path: Path, on_progress: OnTransfer = quiet) -> str:
    """SHA-256 of a file, with progress."""
    total, done, state = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(4 << 20):
            state.update(chunk)
            done += len(chunk)
            on_progress(TransferProgress(Stage.CHECKING, path.name, done, total))
    return state.hexdigest()


def verify(path: Path, expected: str = "", *, on_progress: OnTransfer = quiet) -> FileVerdict:
    """Hashes a file anew and compares it with the digest that is known of it. A good one is recorded."""
    record = read_record(path)
    digest = expected or (record.sha256 if record else "")
    actual = digest_of(path, on_progress)
    if not digest:
        return FileVerdict(path, None, actual, "", "no SHA-256 is known to compare with")
    if actual != digest:
        return FileVerdict(path, False, actual, digest, "the file is damaged, or was replaced")
    if record is not None:
        write_record(path, record.source, actual, record.name)
    return FileVerdict(path, True, actual, digest)


def sweep(home: Home) -> None:
    """Notes of parts that have their name by now: a download was killed behind its last step."""
    for note in home.models.rglob(".*.part.json"):
        if not note.with_name(note.name.removesuffix(".json")).exists():
            note.unlink(missing_ok=True)


def remove(home: Home, paths: tuple[Path, ...]) -> int:
    """Deletes files of the store (with parts and records) and folders left empty. Returns the bytes freed.

    Raises NotSo for a file outside the store: other programs' files are theirs to remove.
    """
    freed = 0
    for path in paths:
        if not path.is_relative_to(home.models):
            raise NotSo(
                f"{path} is not in the stack's own store, so it is left alone",
                next="remove it with the program that downloaded it",
            )
    from llmstack.fetch.transfer import only_one  # it loads an HTTP client, which a look-up does not need

    for path in paths:
        if not path.parent.is_dir():
            continue
        with only_one(path):
            for extra in (
                path.with_name(f".{path.name}.part"),
                path.with_name(f".{path.name}.part.json"),
                path.with_name(f"{path.name}.quarantined"),
                record_path(path),
                path,  # last: what was stopped half-way is still known by its name
            ):
                if extra.is_file():
                    freed += extra.stat().st_size
                    extra.unlink()
        folder = path.parent
        while folder != home.models and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
    return freed


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
