"""A file of the user's that this program writes into: read, written whole or not at all, behind a link."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from llmstack.errors import BadInput
from llmstack.paths import write_atomic

OWNER_ONLY = 0o600


def file_bytes(path: Path) -> bytes | None:
    """None where there is no file. Raises BadInput for one that cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all. Raises BadInput."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data, mode)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None


def file_mode(path: Path) -> int:
    """Of a file that is to be written again; a new one is its owner's alone."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return OWNER_ONLY


def real_path(file: Path) -> Path:
    """Behind a link of a dotfile manager: the link stays, what it leads to is written."""
    return Path(os.path.realpath(file))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
