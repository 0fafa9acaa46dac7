"""What ran before an `up`, on disk until the new stack has proved itself.

`up` writes it before its first change and removes it after its last. One that is still there when no `up` runs
means that the last one was cut off; the next `up` takes it as what to go back to, because the record may
already name a stack that never answered.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from llmstack import stackfile
from llmstack.deploy.supervisors import of_kind, snapshot
from llmstack.paths import Home, write_private
from llmstack.stackfile import ProxyAlone, StackRecord
from llmstack.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Previous:
    """stack None: nothing was deployed. units: the texts of the installed units, edited ones as they were.

    ran: the stack; alone_ran: the proxy, which was deployed without it.
    """

    stack: StackRecord | None
    ran: bool
    units: dict[str, str]
    alone: ProxyAlone | None = None
    alone_ran: bool = False


class _Written(msgspec.Struct):
    """Previous as a file; the stack in the format of the llmstack that wrote it."""

    stack: msgspec.Raw
    ran: bool
    units: dict[str, str] = {}
    alone: ProxyAlone | None = None
    alone_ran: bool = False


def pending(home: Home) -> Previous | None:
    """What an `up` that was cut off wanted to go back to; None when none was."""
    try:
        written = msgspec.json.decode(home.transaction.read_bytes(), type=_Written)
        stack = None if bytes(written.stack) == b"null" else stackfile.decode(written.stack)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return Previous(stack, written.ran, written.units, written.alone, written.alone_ran)


def interrupted(home: Home) -> bool:
    """An `up` was cut off: there is a transaction, and nobody holds the lock of one in progress."""
    if not home.transaction.exists():
        return False
    try:
        descriptor = os.open(home.deploy_lock, os.O_RDWR | os.O_CLOEXEC)
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
        stack = stackfile.read(home)
        alone = stackfile.read_alone(home)
        deployed = alone or stack
        old = of_kind(home, deployed.supervisor) if deployed is not None else None
        lives = old is not None and runs(old)
        units = snapshot(old) if old is not None else {}
        previous = Previous(stack, lives and alone is None, units, alone, lives and alone is not None)
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
