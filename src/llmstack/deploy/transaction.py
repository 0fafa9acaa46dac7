"""What ran before an `up`, on disk until the new stack has proved itself.

`up` writes it before its first change and removes it after its last. One that is still there when no `up` runs
means that the last one was cut off; the next `up` takes it as what to go back to, because the record may
already name a stack that never answered.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from llmstack.deploy import record
from llmstack.deploy.record import Stack
from llmstack.deploy.supervisors import of_kind, snapshot
from llmstack.paths import Home, write_private
from llmstack.supervisor import Supervisor


class Previous(msgspec.Struct, frozen=True):
    """stack None: nothing was deployed. units: the texts of the installed units, edited ones as they were."""

    stack: Stack | None
    ran: bool
    units: dict[str, str] = {}


def pending(home: Home) -> Previous | None:
    """What an `up` that was cut off wanted to go back to; None when none was."""
    try:
        return msgspec.json.decode(home.transaction.read_bytes(), type=Previous)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def interrupted(home: Home) -> bool:
    """An `up` was cut off: there is a transaction, and nobody holds the lock of one in progress."""
    if not home.transaction.exists():
        return False
    try:
        descriptor = os.open(home.state / "deploy.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def begin(home: Home) -> Previous:
    """Writes down what there is now, or takes up what a cut-off `up` left."""
    _sweep(home)
    previous = pending(home)
    if previous is None:
        stack = record.read(home)
        old = of_kind(home, stack.supervisor) if stack is not None else None
        previous = Previous(stack, runs(old) if old else False, snapshot(old) if old else {})
        write_private(home.transaction, msgspec.json.encode(previous))
    return previous


def _sweep(home: Home) -> None:
    """Temporary files (`paths.write_private`) of commands that were killed; the deploy lock keeps ours out of it."""
    for folder in (home.state, home.state / "process"):
        for path in folder.glob(".*.[0-9]*"):
            pid = path.suffix.removeprefix(".")
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                path.unlink(missing_ok=True)


def end(home: Home) -> None:
    home.transaction.unlink(missing_ok=True)


def runs(supervisor: Supervisor) -> bool:
    return any(status.pid for status in supervisor.status().values())
