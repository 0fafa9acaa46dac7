"""The files that a question is about: below one folder, links followed first, text, within bounds."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from llmstack.errors import BadInput
from llmstack.gguf import printable

MOST_FILES = 64
MOST_BYTES = 4 << 20  # of all; more fits into no context


def read_files(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Their texts by name. Raises BadInput for one that is elsewhere, no file, no text, or too much."""
    if len(names) > MOST_FILES:
        raise BadInput(f"{len(names)} files are more than the {MOST_FILES} of one question")
    root, texts, left = root.resolve(), {}, MOST_BYTES
    for name in names:
        data = _read(root, name, left)
        left -= len(data)
        texts[name] = _text(name, data)
    return texts


def _read(root: Path, name: str, most: int) -> bytes:
    shown = printable(name, 300)
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise BadInput(f"{shown} is not below {printable(str(root), 300)}", why="no other file is read")
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise BadInput(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{shown} is no regular file")
    with open(descriptor, "rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise BadInput(f"the files are more than {MOST_BYTES >> 20} MiB together", next="name fewer of them")
    return data


def _text(name: str, data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise BadInput(f"{printable(name, 300)} is no UTF-8 text") from None
    if "\0" in text:
        raise BadInput(f"{printable(name, 300)} is no text")
    return text
