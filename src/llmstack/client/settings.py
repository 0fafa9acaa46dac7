"""Writes this stack into a Claude Code settings file, and takes it out again.

The file is merged: what is not ours stays, in its order. Before the first write its bytes are kept, below the state
folder. Undoing puts these bytes back when nobody has changed the file since; when somebody has, only what is ours is
taken out. No secret is written: Claude Code asks `apiKeyHelper` for the token.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from llmstack.client.users_file import digest, file_bytes, file_mode, real_path, write_file
from llmstack.commands import command_line
from llmstack.errors import BadInput, NotSo, StackError
from llmstack.paths import Home, write_private

HELPER = "apiKeyHelper"
TTL = "CLAUDE_CODE_API_KEY_HELPER_TTL_MS"


class Edit(msgspec.Struct, frozen=True):
    """One value of the document that is ours. path: its keys, from the top. new: what we write there.

    old: what stood there before; had_old False: nothing did.
    """

    path: tuple[str, ...]
    new: Any
    old: Any = None
    had_old: bool = False


class SettingsBackup(msgspec.Struct, frozen=True):
    """What undoing needs. original: the bytes before the first write (base64), None when there was no file.

    written: SHA-256 of the file as we left it. edits: in the order of writing. made_folder: we made its folder.
    """

    path: str
    original: str | None
    mode: int
    written: str
    edits: tuple[Edit, ...]
    made_folder: bool


@dataclass(frozen=True, slots=True)
class StackSettings:
    """environment: without secrets. helper: a command that prints the token, or None. ttl_ms: how long it is good.
    permissions: what Claude Code may do by itself."""

    environment: Mapping[str, str]
    helper: str | None
    ttl_ms: int
    permissions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    path: Path
    changed: bool
    backup: Path

    def to_json(self) -> dict[str, Any]:
        return {"file": str(self.path), "changed": self.changed, "backup": str(self.backup)}


@dataclass(frozen=True, slots=True)
class Undone:
    """whole: the file is byte for byte what it was. removed: it did not exist before and is gone."""

    path: Path
    whole: bool
    removed: bool

    def to_json(self) -> dict[str, Any]:
        return {"file": str(self.path), "whole": self.whole, "removed": self.removed}


def apply(home: Home, file: Path, settings: StackSettings) -> Written:
    """Raises BadInput, with the file untouched, when it is no JSON object or cannot be written."""
    path = real_path(file)
    data = file_bytes(path)
    document = _parse(path, data)
    record = _record(home, path)
    backup = _read_backup(record) if data is not None else None
    if backup is not None and data is not None:
        document = _without(document, backup.edits)
        if digest(data) != backup.written:
            # Changed by somebody since: what is theirs now is the original from here on.
            data, backup = _encode(document), None
    edits = _edits(document, settings)
    encoded = _encode(_with(document, edits))
    if backup is not None and digest(encoded) == backup.written:
        return Written(path, False, record)
    if backup is None:
        original = base64.b64encode(data).decode() if data is not None else None
        backup = SettingsBackup(str(path), original, file_mode(path), "", (), made_folder=not path.parent.exists())
    write_private(record, msgspec.json.encode(msgspec.structs.replace(backup, written=digest(encoded), edits=edits)))
    write_file(path, encoded, backup.mode)
    return Written(path, True, record)


def undo(home: Home, file: Path) -> Undone:
    """Raises NotSo when nothing of ours is known to be in the file, BadInput when it cannot be read any more."""
    path = real_path(file)
    record = _record(home, path)
    backup = _read_backup(record)
    if backup is None:
        raise NotSo(f"llmstack has written nothing into {path}", next=command_line("claude-settings"))
    data = file_bytes(path)
    if data is not None and digest(data) != backup.written:
        write_file(path, _encode(_without(_parse(path, data), backup.edits)), file_mode(path))
        record.unlink()
        return Undone(path, whole=False, removed=False)
    if backup.original is None:
        path.unlink(missing_ok=True)
        if backup.made_folder and path.parent.exists() and not any(path.parent.iterdir()):
            path.parent.rmdir()
        record.unlink()
        return Undone(path, whole=True, removed=True)
    if data is not None:
        write_file(path, base64.b64decode(backup.original), backup.mode)
    record.unlink()
    return Undone(path, whole=data is not None, removed=data is None)


def written_files(home: Home) -> tuple[Path, ...]:
    """Every settings file with something of ours in it. Raises NotSo for a record that does not say which it is."""
    files = []
    for record in sorted(_records(home).glob("*.json")):
        backup = _read_backup(record)
        if backup is None:
            raise NotSo(
                f"{record} cannot be read: it says which Claude Code settings file leads to this stack",
                next=f"look for {HELPER} in your .claude/settings files and take it out; then delete {record}",
            )
        files.append(Path(backup.path))
    return tuple(files)


def undo_every(home: Home) -> tuple[Undone, ...]:
    """Takes this stack out of every file that it was written into: without it, Claude Code would not start there.

    Raises StackError, with the rest undone, for files that it could not be taken out of; their records stay.
    """
    undone, problems = [], []
    for file in written_files(home):
        try:
            undone.append(undo(home, file))
        except StackError as error:
            problems.append(": ".join(filter(None, (error.what, error.why))))
    if problems:
        raise NotSo(
            "this stack is still in a Claude Code settings file, which would then lead to nothing",
            why="\n".join(problems),
            next="correct or delete that file, then run this again",
        )
    return tuple(undone)


def _edits(document: Mapping[str, Any], settings: StackSettings) -> tuple[Edit, ...]:
    """What makes the document say `settings`, in the order of writing."""
    values: list[tuple[tuple[str, ...], Any]] = []
    if settings.helper is not None:
        values.append(((HELPER,), settings.helper))
    if "env" not in document:
        values.append((("env",), {}))
    values += [(("env", name), value) for name, value in settings.environment.items()]
    if settings.helper is not None:
        values.append((("env", TTL), str(settings.ttl_ms)))
    if settings.permissions and "permissions" not in document:
        values.append((("permissions",), {}))
    values += [(("permissions", name), value) for name, value in settings.permissions.items()]
    edits = []
    for path, new in values:
        table = _table(document, path)
        had_old = table is not None and path[-1] in table
        edits.append(Edit(path, new, table[path[-1]] if table is not None and had_old else None, had_old))
    return tuple(edits)


def _with(document: Mapping[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
    result = copy.deepcopy(dict(document))
    for edit in edits:
        table = _table(result, edit.path)
        assert table is not None  # _parse has refused one that is no object, and an edit makes one that is missing
        table[edit.path[-1]] = copy.deepcopy(edit.new)
    return result


def _without(document: Mapping[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
    """The document with our values taken back; a value that somebody changed since stays as they want it."""
    result = copy.deepcopy(dict(document))
    for edit in reversed(edits):
        table, key = _table(result, edit.path), edit.path[-1]
        if table is None or key not in table or table[key] != edit.new:
            continue
        if edit.had_old:
            table[key] = edit.old
        else:
            del table[key]
    return result


def _table(document: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    """What holds the last key of the path; None where it is not there."""
    table: Any = document
    for key in path[:-1]:
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else None


def _parse(path: Path, data: bytes | None) -> dict[str, Any]:
    if data is None or not data.strip():
        return {}
    refused = "it was left as it is"
    try:
        document = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not UTF-8 (byte {error.start}); {refused}", next=f"correct {path}, then run this again"
        ) from None
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path} is not valid JSON; {refused}",
            why=f"line {error.lineno}, column {error.colno}: {error.msg}",
            next=f"correct {path}, then run this again",
        ) from None
    except RecursionError:
        raise BadInput(f"{path} is nested too deeply; {refused}") from None
    if not isinstance(document, dict):
        raise BadInput(f"{path} holds no JSON object; {refused}", next=f"correct {path}, then run this again")
    for name in ("env", "permissions"):
        if not isinstance(document.get(name, {}), dict):
            raise BadInput(f'"{name}" in {path} is no object; {refused}', next=f"correct {path}, then run this again")
    return document


def _encode(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _records(home: Home) -> Path:
    return home.state / "claude-settings"


def _record(home: Home, path: Path) -> Path:
    return _records(home) / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"


def _read_backup(record: Path) -> SettingsBackup | None:
    try:
        data = record.read_bytes()
        try:
            return msgspec.json.decode(data, type=SettingsBackup)
        except msgspec.ValidationError:
            return _of_first_form(msgspec.json.decode(data, type=_FirstForm))
    except (FileNotFoundError, msgspec.DecodeError):
        return None


class _FirstForm(msgspec.Struct, frozen=True):
    """A backup as it was written before there were edits: what is in somebody's file must still come out of it."""

    path: str
    original: str | None
    mode: int
    written: str
    environment: dict[str, Any]
    before_environment: dict[str, Any]
    helper: str | None
    before_helper: Any
    had_helper: bool
    had_environment: bool
    made_folder: bool


def _of_first_form(record: _FirstForm) -> SettingsBackup:
    before = record.before_environment
    edits = [] if record.helper is None else [Edit((HELPER,), record.helper, record.before_helper, record.had_helper)]
    edits += [] if record.had_environment else [Edit(("env",), {})]
    edits += [Edit(("env", k), v, before.get(k), k in before) for k, v in record.environment.items()]
    return SettingsBackup(record.path, record.original, record.mode, record.written, tuple(edits), record.made_folder)
