"""The files of saved states: `NAME.kv` and beside it `NAME.json`, which says what it is. Only a complete pair counts.

A save goes to a file of another name first. It becomes a pair when its size, its tokens and its digest are known, so
a process killed in the middle, a full disk and a torn file all leave something that `sweep` removes and nobody uses.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from llmstack.paths import write_private
from llmstack.recent import Recent
from llmstack.warmstart.interface import LogEvent, silent
from llmstack.warmstart.statefile import read_tokens

StateKind = Literal["prefix", "conversation"]
BUDGET_BYTES = 8 << 30
_UNFINISHED = "new-"
_PREFIXES_KEPT = 4
_TOKENS_IN_MEMORY = 64  # states whose tokens need not be read again
ABANDONED_S = 60.0
_SETTLED_NS = 2_000_000_000  # a later write in the same tick of the file system's clock would not show

_Mark = tuple[int, int, int]  # inode, bytes, ns since 1970 of the last write


class StoredState(msgspec.Struct, frozen=True, rename={"fingerprint": "seal"}):
    """One saved state. kind prefix: system text and tools, exactly to their end; conversation: whatever a slot held.

    key: which prefix, or which conversation. fingerprint: what it belongs to ("seal" in its file). tokens: how many it
    holds. size in bytes. created and used: s since 1970; used is the time of the description's last write.
    """

    name: str
    kind: StateKind
    key: str
    fingerprint: str
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


@dataclass(frozen=True, slots=True)
class StateLabel:
    """What a state is, before it is on disk; the fields as in StoredState."""

    kind: StateKind
    key: str
    fingerprint: str
    model: str


class RememberedPrefix(msgspec.Struct, frozen=True):
    """A prefix that was used, as the request that asks for it: system message, tools, template settings."""

    key: str
    body: dict[str, Any]
    tokens: int = 0

    def as_request(self) -> dict[str, Any]:
        """The shortest conversation with this prefix."""
        return {**self.body, "messages": [*self.body["messages"], {"role": "user", "content": ""}]}


@dataclass(slots=True)
class Store:
    """All states below `root`, of all servers; budget in bytes for all of them. Logs what was removed and why."""

    root: Path
    budget: int = BUDGET_BYTES
    log_event: LogEvent = silent
    _tokens: Recent[str, array[int]] = field(default_factory=lambda: Recent(_TOKENS_IN_MEMORY))
    _whole: dict[Path, _Mark] = field(default_factory=dict)  # files whose digest was right, as they were then
    _unfinished: set[Path] = field(default_factory=set)  # files the servers of this process write now
    _lock: threading.Lock = field(default_factory=threading.Lock)  # a pair appears whole to a sweep of another thread

    # ---- reading ----------------------------------------------------------------------------------------

    def states(self) -> list[StoredState]:
        """Complete pairs, the last used first."""
        described = (self._read(path) for path in self.root.glob("*/*.json"))
        whole = [state for state in described if state is not None and self._size(state.path) == state.size]
        return sorted(whole, key=lambda state: state.used, reverse=True)

    def usable(self, folder: Path, fingerprint: str) -> list[StoredState]:
        """What the server of this folder may restore, the last used first."""
        return [state for state in self.states() if state.folder == str(folder) and state.fingerprint == fingerprint]

    def tokens(self, state: StoredState) -> array[int] | None:
        """The token ids it holds; None (and the state is gone) when its file does not say them."""
        tokens = self._tokens.get(state.digest)
        if tokens is None:
            with suppress(OSError):
                tokens = read_tokens(state.path)
            if tokens is None or len(tokens) != state.tokens:
                self.discard(state, "its tokens cannot be read")
                return None
            self._tokens.put(state.digest, tokens)
        return tokens

    def intact(self, state: StoredState) -> bool:
        """Whether the file is still what was saved, byte for byte; one that is not is removed.

        Its bytes are read once; afterwards a file that nobody has touched since is known to be whole.
        """
        try:
            mark = _mark(state.path)
            if self._whole.get(state.path) == mark:
                return True
            if mark[1] == state.size and _digest(state.path) == state.digest:
                if time.time_ns() - mark[2] > _SETTLED_NS:
                    self._whole[state.path] = mark
                return True
        except OSError:
            pass
        self.discard(state, "its file is not what was saved")
        return False

    # ---- writing ----------------------------------------------------------------------------------------

    def begin(self, folder: Path) -> str:
        """The name of a file for the server to write into; it is there already, readable by its owner only.

        Ends with `finish` or `abandon`; until then `sweep` leaves the file alone. Raises OSError.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{_UNFINISHED}{secrets.token_hex(8)}.kv"
        self._unfinished.add(folder / name)
        try:
            os.close(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError:
            self._unfinished.discard(folder / name)
            raise
        return name

    def abandon(self, folder: Path, name: str) -> None:
        with suppress(OSError):
            (folder / name).unlink()
        self._unfinished.discard(folder / name)

    def finish(
        self, folder: Path, name: str, label: StateLabel, *, written: int, exactly: array[int] | None = None
    ) -> StoredState | None:
        """Turns what the server wrote into a state; None, and the file is gone, when it is not whole.

        written: bytes the server says it wrote. exactly: the tokens it must hold. Raises OSError.
        """
        path = folder / name
        fault = ""
        tokens = read_tokens(path)
        if self._size(path) != written or written == 0:
            fault = f"the file has {self._size(path)} bytes, the server wrote {written}"
        elif tokens is None:
            fault = "its tokens cannot be read"
        elif exactly is not None and tokens != exactly:
            fault = "the slot went on before it was saved"
        if fault or tokens is None:
            self.abandon(folder, name)
            self.log_event("snapshot", {"result": "dropped", "kind": label.kind, "why": fault})
            return None
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
        digest = _digest(path)
        with self._lock:
            return self._publish(path, label, len(tokens), written, digest)

    def _publish(self, path: Path, label: StateLabel, tokens: int, size: int, digest: str) -> StoredState:
        folder = path.parent
        for old in self.states():
            if (old.folder, old.kind, old.key) == (str(folder), label.kind, label.key):
                self._remove(old)
        now = time.time()
        stem = f"{label.kind}-{secrets.token_hex(8)}"
        state = StoredState(
            stem, label.kind, label.key, label.fingerprint, label.model, tokens, size, digest, created=now
        )
        path.replace(folder / state.file)
        self._unfinished.discard(path)
        write_private(folder / f"{stem}.json", msgspec.json.encode(state))
        self._enforce(keep=stem)
        return msgspec.structs.replace(state, folder=str(folder), used=now)

    def touch(self, state: StoredState) -> None:
        """Marks it as used now."""
        with suppress(OSError):
            os.utime(self._description(state))

    def discard(self, state: StoredState, why: str) -> None:
        self._remove(state)
        self.log_event("snapshot", {"result": "ignored", "kind": state.kind, "tokens": state.tokens, "why": why})

    def sweep(self) -> int:
        """Removes what no complete pair explains; returns how many files that were.

        What a save of this process writes stays, whichever server it is of. Of files written under another name
        (paths.write_private) only those go that nobody still writes.
        """
        with self._lock:
            removed = self._sweep_states() + self._sweep_rewrites()
            self._enforce()
        return removed

    def _sweep_states(self) -> int:
        explained = {path for state in self.states() for path in (state.path, self._description(state))}
        removed = 0
        for path in self.root.glob("*/*"):
            if path.suffix not in (".kv", ".json") or path in explained or path in self._unfinished:
                continue
            with suppress(OSError):
                path.unlink()
                removed += 1
            if path.suffix == ".kv":
                why = "it was not saved to its end"
                self.log_event("snapshot", {"result": "ignored", "file": path.name, "why": why})
        return removed

    def _sweep_rewrites(self) -> int:
        removed = 0
        for path in (*self.root.glob(".*"), *self.root.glob("*/.*")):
            with suppress(OSError):
                if path.is_file() and time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()
                    removed += 1
        return removed

    def clear(self) -> tuple[int, int]:
        """Removes all states and remembered prefixes; returns the number of states, and all bytes."""
        states = self.states()
        size = sum(state.size for state in states)
        for state in states:
            self._remove(state)
        for path in self.root.glob("*.prefix"):
            size += max(self._size(path), 0)
            path.unlink(missing_ok=True)
        return len(states), size

    # ---- prefixes as requests ------------------------------------------------------------------------------

    def remember(self, prefix: RememberedPrefix) -> None:
        """Keeps how to ask for a prefix, for the day its state cannot be used. Raises OSError."""
        write_private(self.root / f"{prefix.key}.prefix", msgspec.json.encode(prefix))
        for old in self._prefix_files()[_PREFIXES_KEPT:]:
            with suppress(OSError):
                old.unlink()

    def prefixes(self) -> Iterator[RememberedPrefix]:
        """The last used first."""
        for path in self._prefix_files():
            with suppress(OSError, msgspec.DecodeError):
                yield msgspec.json.decode(path.read_bytes(), type=RememberedPrefix)

    def touch_prefix(self, key: str) -> None:
        with suppress(OSError):
            os.utime(self.root / f"{key}.prefix")

    def _prefix_files(self) -> list[Path]:
        by_age = []
        for path in self.root.glob("*.prefix"):
            with suppress(OSError):
                by_age.append((path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(by_age, reverse=True)]

    # ---- within ------------------------------------------------------------------------------------------------

    def _read(self, path: Path) -> StoredState | None:
        try:
            state = msgspec.json.decode(path.read_bytes(), type=StoredState)
            used = path.stat().st_mtime
        except (OSError, msgspec.DecodeError):
            return None
        if state.name != path.stem:
            return None
        return msgspec.structs.replace(state, folder=str(path.parent), used=used)

    @staticmethod
    def _description(state: StoredState) -> Path:
        return Path(state.folder) / f"{state.name}.json"

    @staticmethod
    def _size(path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError:
            return -1

    def _remove(self, state: StoredState) -> None:
        self._tokens.pop(state.digest)
        self._whole.pop(state.path, None)
        for path in (self._description(state), state.path):  # the description first: a lone state counts for nothing
            with suppress(OSError):
                path.unlink()

    def _enforce(self, keep: str = "") -> None:
        """The least recently used go until the rest fits the budget."""
        total = 0
        for state in self.states():
            total += state.size
            if total > self.budget and state.name != keep:
                self._remove(state)
                total -= state.size
                self.log_event("snapshot", {"result": "removed", "kind": state.kind, "why": "the budget is used up"})


def _mark(path: Path) -> _Mark:
    """Changes with every write. Raises OSError."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
