"""Writes a lasting setting into an agent's own files, and takes it out again.

Before the first write a file's bytes are kept below the state folder. Undoing puts them back when nobody has changed
the file since; else only what is ours is taken out, or, where that cannot be told apart, nothing, with a sentence.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from llmstack.client.settings import Undone, Written
from llmstack.client.users_file import OWNER_ONLY, digest, file_bytes, file_mode, real_path, write_file
from llmstack.commands import command_line
from llmstack.errors import BadInput, NotSo, StackError
from llmstack.launch.jsonc import NotJson, parse, with_value, without
from llmstack.launch.lasting import LastingFile, Values
from llmstack.launch.lines import NotPossible, taken_out
from llmstack.paths import Home, write_private


class ValueChange(msgspec.Struct, frozen=True):
    """One value of a JSON file. old: what stood there; had_old False: nothing did."""

    path: tuple[str, ...]
    new: Any
    old: Any = None
    had_old: bool = False


class FileBackup(msgspec.Struct, frozen=True):
    """What undoing needs. original: the file before (base64), None when there was none. written: as we left it.

    ours: SHA-256 of what may stand there with nothing but our change in it. changes: of JSON. agent: its name.
    """

    agent: str
    path: str
    original: str | None
    written: str
    mode: int
    ours: tuple[str, ...]
    changes: tuple[ValueChange, ...]
    made_folder: bool


def write(home: Home, agent: str, files: Sequence[LastingFile]) -> tuple[Written, ...]:
    """Raises BadInput, with every file untouched, where one cannot say it and keep what is in it."""
    plans = [_plan(home, agent, file) for file in files]
    written = []
    for file, (record, backup, unchanged) in zip(files, plans, strict=True):
        path = Path(backup.path)
        if not unchanged:
            write_private(record, msgspec.json.encode(backup))
            write_file(path, base64.b64decode(backup.written), OWNER_ONLY if file.secret else backup.mode)
        written.append(Written(path, not unchanged, record))
    return tuple(written)


def undo(home: Home, agent: str) -> tuple[Undone, ...]:
    """Of every file of this agent. Raises NotSo where nothing was written, or where ours cannot be told from theirs."""
    backups = [backup for backup in _backups(home) if backup.agent == agent]
    if not backups:
        raise NotSo(
            f"llmstack has written nothing into the files of {agent}", next=command_line("launch", agent, "--write")
        )
    return tuple(_undo(home, backup) for backup in backups)


def files_written(home: Home) -> tuple[Path, ...]:
    """Every file of an agent with something of ours in it. Raises NotSo for a record that cannot be read."""
    return tuple(Path(backup.path) for backup in _backups(home))


def undo_all(home: Home) -> tuple[Undone, ...]:
    """Raises NotSo, with the rest undone, for files that it could not be taken out of; their records stay."""
    undone, problems = [], []
    for backup in _backups(home):
        try:
            undone.append(_undo(home, backup))
        except StackError as error:
            problems.append(": ".join(filter(None, (error.what, error.why))))
    if problems:
        raise NotSo(
            "this stack is still in the settings of an agent, which would then lead to nothing",
            why="\n".join(problems),
            next="correct or delete that file, then run this again",
        )
    return tuple(undone)


def _plan(home: Home, agent: str, file: LastingFile) -> tuple[Path, FileBackup, bool]:
    """The record's place, the record, and whether the file says all of it already."""
    path = real_path(file.path)
    record, data = _record(home, path), file_bytes(path)
    before = _read(record) if data is not None else None
    ours: tuple[str, ...] = ()
    base, made_folder, mode = data, not path.parent.exists(), file_mode(path)
    if before is not None and data is not None:
        base, mode = _base(before, data), before.mode
        made_folder = before.made_folder
        ours = (digest(data),)
    text = _text(path, base or b"")
    try:
        new, changes = _json(text, file.values) if file.lines is None else (file.lines(text), ())
    except (NotJson, NotPossible) as error:
        raise BadInput(
            f"{path} cannot be written without losing something of yours; it was left as it is",
            why=str(error),
            next=command_line("launch", agent),
        ) from None
    encoded = new.encode()
    backup = FileBackup(
        agent,
        str(path),
        base64.b64encode(base).decode() if base is not None else None,
        base64.b64encode(encoded).decode(),
        mode,
        (*ours, digest(encoded)),
        changes,
        made_folder,
    )
    return record, backup, before is not None and data == encoded


def _json(text: str, values: Values) -> tuple[str, tuple[ValueChange, ...]]:
    document = parse(text)
    changes: list[ValueChange] = []
    for path, value in values:
        for depth in range(1, len(path) + 1):
            new = value if depth == len(path) else {}
            table = _at(document, path[: depth - 1])
            had_old = isinstance(table, dict) and path[depth - 1] in table
            if had_old and depth < len(path):
                continue
            if not isinstance(table, dict):
                raise NotJson(f"{'.'.join(path[: depth - 1])} is no object")
            changes.append(ValueChange(path[:depth], new, table.get(path[depth - 1]), had_old))
            text = with_value(text, path[:depth], new)
            table[path[depth - 1]] = new if depth == len(path) else {}
    if parse(text) != document:
        raise NotJson("its text does not say what it seems to")
    return text, tuple(changes)


def _at(document: Any, path: Sequence[str]) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _base(backup: FileBackup, data: bytes) -> bytes | None:
    """What the file would be without us; None: it was not there. Raises NotSo where that cannot be told."""
    original = base64.b64decode(backup.original) if backup.original is not None else None
    if digest(data) in backup.ours:
        return original
    if data == original:
        return data
    try:
        text = data.decode()
        if backup.changes:
            return _reverted(text, backup.changes).encode()
        return taken_out((original or b"").decode(), base64.b64decode(backup.written).decode(), text).encode()
    except (UnicodeDecodeError, NotJson, NotPossible) as error:
        raise NotSo(
            f"what llmstack wrote into {backup.path} cannot be told from what was changed there since",
            why=str(error),
            next=f"take llmstack out of {backup.path} by hand",
        ) from None


def _reverted(text: str, changes: Sequence[ValueChange]) -> str:
    """A value that somebody changed since stays as they want it."""
    for change in reversed(changes):
        table = _at(parse(text), change.path[:-1])
        if not isinstance(table, dict) or change.path[-1] not in table or table[change.path[-1]] != change.new:
            continue
        text = with_value(text, change.path, change.old) if change.had_old else without(text, change.path)
    return text


def _undo(home: Home, backup: FileBackup) -> Undone:
    path = Path(backup.path)
    record, data = _record(home, path), file_bytes(path)
    base = _base(backup, data) if data is not None else None
    if data is not None and base is not None:
        write_file(path, base, backup.mode)
    else:
        path.unlink(missing_ok=True)
        if backup.made_folder and path.parent.exists() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    record.unlink()
    original = base64.b64decode(backup.original) if backup.original is not None else None
    return Undone(path, whole=base == original, removed=base is None)


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not UTF-8 (byte {error.start}); it was left as it is",
            next=f"correct {path}, then run this again",
        ) from None


def _records(home: Home) -> Path:
    return home.state / "launch-written"


def _record(home: Home, path: Path) -> Path:
    return _records(home) / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"


def _backups(home: Home) -> list[FileBackup]:
    backups = []
    for record in sorted(_records(home).glob("*.json")):
        backup = _read(record)
        if backup is None:
            raise NotSo(
                f"{record} cannot be read: it says which file of an agent leads to this stack",
                next=f"look for llmstack in your agents' settings and take it out; then delete {record}",
            )
        backups.append(backup)
    return backups


def _read(record: Path) -> FileBackup | None:
    try:
        return msgspec.json.decode(record.read_bytes(), type=FileBackup)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
