"""The files: a state `NAME.kv` and beside it `NAME.json`, which says what it is. Only a complete pair counts.

A save goes to a file of another name first. It becomes a pair when its size, its tokens and its digest are known, so
a process killed in the middle, a full disk and a torn file all leave something that `sweep` removes and nobody uses.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from llmstack.paths import write_private
from llmstack.recent import Recent
from llmstack.snapshots.calls import NAME, silent
from llmstack.snapshots.statefile import read_tokens

Kind = Literal["prefix", "conversation"]
BUDGET_BYTES = 8 << 30
_UNFINISHED = "new-"
_PREFIXES_KEPT = 4
ABANDONED_S = 60.0
_SETTLED_NS = 2_000_000_000  # a later write in the same tick of the file system's clock would not show

_Mark = tuple[int, int, int]  # inode, bytes, ns since 1970 of the last write


class Entry(msgspec.Struct, frozen=True):
    """One saved state. kind prefix: system text and tools, exactly to their end; conversation: whatever a slot held.

    key: which prefix, or which conversation. seal: what it belongs to. tokens: how many it holds. size in bytes.
    """

    name: str
    kind: Kind
    key: str
    seal: str
    model: str
    tokens: int
    size: int
    digest: str
    created: float
    folder: str = ""
    used: float = 0.0

    @property
    def file(self) -> str:
        return f"{self.name}.kv"

    @property
    def path(self) -> Path:
        return Path(self.folder) / self.file


class Prefix(msgspec.Struct, frozen=True):
    """A prefix that was used, as the request that asks for it: system message, tools, template settings."""

    key: str
    body: dict[str, Any]
    tokens: int = 0


@dataclass(slots=True)
class Store:
    """All states below `root`. say(event, fields) tells what was removed and why."""

    root: Path
    budget: int = BUDGET_BYTES
    say: Callable[[str, dict[str, Any]], None] = silent
    _tokens: Recent[str, array[int]] = field(default_factory=lambda: Recent(64))
    _whole: dict[Path, _Mark] = field(default_factory=dict)  # files whose digest was right, as they were then

    # ---- reading ----------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Complete pairs, the last used first."""
        found = []
        for path in self.root.glob("*/*.json"):
            entry = self._entry(path)
            if entry is not None and self._size(entry.path) == entry.size:
                found.append(entry)
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def usable(self, folder: Path, seal: str) -> list[Entry]:
        """What the server of this folder may restore, the last used first."""
        return [entry for entry in self.entries() if entry.folder == str(folder) and entry.seal == seal]

    def tokens(self, entry: Entry) -> array[int] | None:
        """The token ids it holds; None (and the entry is gone) when its file does not say them."""
        known = self._tokens.get(entry.digest)
        if known is None:
            try:
                known = read_tokens(entry.path)
            except OSError:
                known = None
            if known is None or len(known) != entry.tokens:
                self.discard(entry, "its tokens cannot be read")
                return None
            self._tokens.put(entry.digest, known)
        return known

    def intact(self, entry: Entry) -> bool:
        """Whether the file is still what was saved, byte for byte; one that is not is removed.

        Its bytes are read once; afterwards a file that nobody has touched since is known to be whole.
        """
        try:
            mark = _mark(entry.path)
            if self._whole.get(entry.path) == mark:
                return True
            if mark[1] == entry.size and _digest(entry.path) == entry.digest:
                if time.time_ns() - mark[2] > _SETTLED_NS:
                    self._whole[entry.path] = mark
                return True
        except OSError:
            pass
        self.discard(entry, "its file is not what was saved")
        return False

    # ---- writing ----------------------------------------------------------------------------------------

    def begin(self, folder: Path) -> str:
        """The name of a file for the server to write into; it is there already, readable by its owner only.

        Raises OSError.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{_UNFINISHED}{secrets.token_hex(8)}.kv"
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.close(descriptor)
        return name

    def abandon(self, folder: Path, name: str) -> None:
        with suppress(OSError):
            (folder / name).unlink()

    def finish(
        self,
        folder: Path,
        name: str,
        *,
        kind: Kind,
        key: str,
        seal: str,
        model: str,
        written: int,
        exactly: array[int] | None = None,
    ) -> Entry | None:
        """Turns what the server wrote into an entry; None, and the file is gone, when it is not whole.

        written: bytes the server says it wrote. exactly: the tokens it must hold. Raises OSError.
        """
        path = folder / name
        why = ""
        tokens = read_tokens(path)
        if self._size(path) != written or written == 0:
            why = f"the file has {self._size(path)} bytes, the server wrote {written}"
        elif tokens is None:
            why = "its tokens cannot be read"
        elif exactly is not None and tokens != exactly:
            why = "the slot went on before it was saved"
        if why or tokens is None:
            self.abandon(folder, name)
            self.say("snapshot", {"result": "dropped", "kind": kind, "why": why})
            return None
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
        for old in self.entries():
            if (old.folder, old.kind, old.key) == (str(folder), kind, key):
                self._remove(old)
        now = time.time()
        stem = f"{kind}-{secrets.token_hex(8)}"
        entry = Entry(stem, kind, key, seal, model, len(tokens), written, _digest(path), now)
        path.replace(folder / entry.file)
        write_private(folder / f"{stem}.json", msgspec.json.encode(entry))
        self._enforce(keep=stem)
        return msgspec.structs.replace(entry, folder=str(folder), used=now)

    def touch(self, entry: Entry) -> None:
        """Marks it as used now."""
        with suppress(OSError):
            os.utime(self._description(entry))

    def discard(self, entry: Entry, why: str) -> None:
        self._remove(entry)
        self.say("snapshot", {"result": "ignored", "kind": entry.kind, "tokens": entry.tokens, "why": why})

    def sweep(self) -> int:
        """Removes what no complete pair explains; returns how many files that were. Call while nothing is saving.

        Of files written under another name (paths.write_private) only those that nobody still writes.
        """
        kept = {path for entry in self.entries() for path in (entry.path, self._description(entry))}
        gone = 0
        for path in self.root.glob("*/*"):
            if path.suffix in (".kv", ".json") and path not in kept:
                with suppress(OSError):
                    path.unlink()
                    gone += 1
                if path.suffix == ".kv":
                    self.say("snapshot", {"result": "ignored", "file": path.name, "why": "it was not saved to its end"})
        for path in (*self.root.glob(".*"), *self.root.glob("*/.*")):
            with suppress(OSError):
                if path.is_file() and time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()
                    gone += 1
        self._enforce()
        return gone

    def clear(self) -> tuple[int, int]:
        """Removes all states, remembered prefixes and tool calls; returns the number of states, and all bytes."""
        entries = self.entries()
        size = sum(entry.size for entry in entries)
        for entry in entries:
            self._remove(entry)
        for path in (*self.root.glob("*.prefix"), self.root / NAME):
            size += max(self._size(path), 0)
            path.unlink(missing_ok=True)
        return len(entries), size

    # ---- prefixes as requests ------------------------------------------------------------------------------

    def remember(self, prefix: Prefix) -> None:
        """Keeps how to ask for a prefix, for the day its state cannot be used. Raises OSError."""
        write_private(self.root / f"{prefix.key}.prefix", msgspec.json.encode(prefix))
        for old in self._prefix_files()[_PREFIXES_KEPT:]:
            with suppress(OSError):
                old.unlink()

    def prefixes(self) -> Iterator[Prefix]:
        """The last used first."""
        for path in self._prefix_files():
            with suppress(OSError, msgspec.DecodeError):
                yield msgspec.json.decode(path.read_bytes(), type=Prefix)

    def touch_prefix(self, key: str) -> None:
        with suppress(OSError):
            os.utime(self.root / f"{key}.prefix")

    def _prefix_files(self) -> list[Path]:
        dated = []
        for path in self.root.glob("*.prefix"):
            with suppress(OSError):
                dated.append((path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(dated, reverse=True)]

    # ---- within ------------------------------------------------------------------------------------------------

    def _entry(self, path: Path) -> Entry | None:
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=Entry)
            used = path.stat().st_mtime
        except (OSError, msgspec.DecodeError):
            return None
        if entry.name != path.stem:
            return None
        return msgspec.structs.replace(entry, folder=str(path.parent), used=used)

    @staticmethod
    def _description(entry: Entry) -> Path:
        return Path(entry.folder) / f"{entry.name}.json"

    @staticmethod
    def _size(path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError:
            return -1

    def _remove(self, entry: Entry) -> None:
        self._tokens.pop(entry.digest)
        self._whole.pop(entry.path, None)
        for path in (self._description(entry), entry.path):  # the description first: a lone state counts for nothing
            with suppress(OSError):
                path.unlink()

    def _enforce(self, keep: str = "") -> None:
        """The least recently used go until the rest fits the budget."""
        total = 0
        for entry in self.entries():
            total += entry.size
            if total > self.budget and entry.name != keep:
                self._remove(entry)
                total -= entry.size
                self.say("snapshot", {"result": "removed", "kind": entry.kind, "why": "the budget is used up"})


def _mark(path: Path) -> _Mark:
    """Changes with every write. Raises OSError."""
    told = path.stat()
    return told.st_ino, told.st_size, told.st_mtime_ns


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
