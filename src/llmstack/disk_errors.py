"""What a disk refuses, as an error a person can act on: which folder, why, and what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from llmstack.commands import command_line
from llmstack.errors import MissingPart

_NOT_YOURS = ("you may not write there", "ls -ld {folder}   shows whose it is; LLMSTACK_HOME=DIR takes another one")
_REMEDIES = {
    errno.ENOSPC: (
        "the disk is full",
        "df -h {folder}   shows it; {models}   shows what the models take, {cache}   frees the saved prompts",
    ),
    errno.EDQUOT: ("your quota on this disk is used up", "quota -s   shows it; then run the command again"),
    errno.EROFS: ("the disk is read-only", "LLMSTACK_HOME=DIR   keeps everything in another folder"),
    errno.EACCES: _NOT_YOURS,
    errno.EPERM: _NOT_YOURS,
    errno.EIO: ("the disk reports an error", "dmesg | tail   shows what the kernel says of it"),
}
DISK = frozenset(_REMEDIES)


def of_disk(error: OSError, home: Path | None = None) -> MissingPart:
    """error.errno is one of DISK. What was there before is as it was: files are written whole or not at all.

    home: where our files are, for an error that names none.
    """
    why, remedy = _REMEDIES[error.errno or errno.EIO]
    path = Path(str(error.filename2 or error.filename)) if error.filename else None
    folder = path.parent if path is not None else home
    name = str(path) if path is not None else f"a file below {home}" if home is not None else "a file"
    what = f"{name} cannot be written or read"
    if folder is None:
        return MissingPart(what, why=f"{why} ({error.strerror})", next=f"df -h; {command_line('doctor')}")
    while not folder.is_dir() and folder != folder.parent:  # what is not there yet is on the disk of what is above it
        folder = folder.parent
    commands = {"models": command_line("models", "disk"), "cache": command_line("cache", "clear")}
    step = remedy.format(folder=folder, **commands)
    return MissingPart(what, why=f"{why} ({error.strerror})", next=step)
