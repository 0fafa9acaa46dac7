"""What a pull tells while it runs."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass


class Stage(enum.StrEnum):
    ASKING = "asking"  # the server is asked for size and hash
    TERMS = "terms"  # its licence sets conditions of its own: the note says where they are
    WAITING = "waiting"  # another pull of this file runs
    CHECKING = "checking"  # bytes that are already here are hashed
    DOWNLOADING = "downloading"
    RENAMED = "renamed"  # where it comes from it has another name
    RETRYING = "retrying"  # the connection broke
    READY = "ready"


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """done, total: bytes (total 0 when unknown). note: one sentence, where there is something to say."""

    stage: Stage
    file: str
    done: int = 0
    total: int = 0
    note: str = ""


OnTransfer = Callable[[TransferProgress], None]


def quiet(progress: TransferProgress) -> None:
    """Shows nothing."""
