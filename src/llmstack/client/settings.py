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
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from llmstack.commands import command_line
from llmstack.errors import BadInput, NotSo
from llmstack.paths import Home, write_private

HELPER = "apiKeyHelper"
TTL = "CLAUDE_CODE_API_KEY_HELPER_TTL_MS"


class SettingsBackup(msgspec.Struct, frozen=True):
    """original: the bytes before the first write (base64), None when there was no file. written: SHA-256 of ours.

    before: what stood in the keys that were set, absent where there was nothing. made_folder: we made its folder.
    """

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


@dataclass(frozen=True, slots=True)
class StackSettings:
    """environment: without secrets. helper: a command that prints the token, or None. ttl_ms: how long it is good."""

    environment: Mapping[str, str]
    helper: str | None
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Written:
    path: Path
    changed: bool
    backup: Path


@dataclass(frozen=True, slots=True)
class Undone:
    """whole: the file is byte for byte what it was. removed: it did not exist before and is gone."""

    path: Path
    whole: bool
    removed: bool


def apply(home: Home, file: Path, wanted: StackSettings) -> Written:
    """Raises BadInput, with the file untouched, when it is no JSON object or cannot be written."""
    path = _real(file)
    data = _bytes(path)
    document = _parse(path, data)
    record = _record(home, path)
    kept = _read_kept(record)
    if kept is not None and data is not None and _digest(data) != kept.written:
        # Changed by somebody since: what is theirs now is the original from here on.
        without = _without(document, kept)
        data, document, kept = _encode(without), without, None
    elif kept is not None and data is not None:
        document = _without(document, kept)
    elif data is None:
        kept = None
    target = copy.deepcopy(document)
    environment = {**wanted.environment}
    if wanted.helper is not None:
        environment[TTL] = str(wanted.ttl_ms)
        target[HELPER] = wanted.helper
    block = target.setdefault("env", {})
    block.update(environment)
    encoded = _encode(target)
    unchanged = kept is not None and _digest(encoded) == kept.written
    if unchanged:
        return Written(path, False, record)
    old = document.get("env", {})
    made_folder = kept.made_folder if kept is not None else not path.parent.exists()
    original = kept.original if kept is not None else (base64.b64encode(data).decode() if data is not None else None)
    now = SettingsBackup(
        path=str(path),
        original=original,
        mode=kept.mode if kept is not None else _mode(path),
        written=_digest(encoded),
        environment=environment,
        before_environment={name: old[name] for name in environment if name in old},
        helper=wanted.helper,
        before_helper=document.get(HELPER),
        had_helper=HELPER in document,
        had_environment="env" in document,
        made_folder=made_folder,
    )
    write_private(record, msgspec.json.encode(now))
    _write(path, encoded, now.mode)
    return Written(path, True, record)


def undo(home: Home, file: Path) -> Undone:
    """Raises NotSo when nothing of ours is known to be in the file, BadInput when it cannot be read any more."""
    path = _real(file)
    record = _record(home, path)
    kept = _read_kept(record)
    if kept is None:
        raise NotSo(f"llmstack has written nothing into {path}", next=command_line("claude-settings"))
    data = _bytes(path)
    if data is not None and _digest(data) != kept.written:
        _write(path, _encode(_without(_parse(path, data), kept)), _mode(path))
        record.unlink()
        return Undone(path, whole=False, removed=False)
    if kept.original is None:
        path.unlink(missing_ok=True)
        if kept.made_folder and path.parent.exists() and not any(path.parent.iterdir()):
            path.parent.rmdir()
        record.unlink()
        return Undone(path, whole=True, removed=True)
    if data is not None:
        _write(path, base64.b64decode(kept.original), kept.mode)
    record.unlink()
    return Undone(path, whole=data is not None, removed=data is None)


def _without(document: Mapping[str, Any], kept: SettingsBackup) -> dict[str, Any]:
    """The document with our values taken back; a value that somebody changed since stays as they want it."""
    result = dict(document)
    environment = result.get("env")
    if isinstance(environment, dict):
        environment = dict(environment)
        for name, value in kept.environment.items():
            if environment.get(name) != value:
                continue
            if name in kept.before_environment:
                environment[name] = kept.before_environment[name]
            else:
                del environment[name]
        if environment or kept.had_environment:
            result["env"] = environment
        else:
            del result["env"]
    if kept.helper is not None and result.get(HELPER) == kept.helper:
        if kept.had_helper:
            result[HELPER] = kept.before_helper
        else:
            del result[HELPER]
    return result


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
    if not isinstance(document.get("env", {}), dict):
        raise BadInput(f'"env" in {path} is no object; {refused}', next=f"correct {path}, then run this again")
    return document


def _encode(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0o600


def _real(file: Path) -> Path:
    """Behind a link of a dotfile manager: the link stays, what it leads to is written."""
    return Path(os.path.realpath(file))


def _record(home: Home, path: Path) -> Path:
    return home.state / "claude-settings" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"


def _read_kept(record: Path) -> SettingsBackup | None:
    try:
        return msgspec.json.decode(record.read_bytes(), type=SettingsBackup)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
