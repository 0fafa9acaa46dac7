"""Every error a person can meet: what happened, why, and the next command to run.

The class decides the exit status:
1 the thing asked for is not so, 2 usage, 3 environment, 4 interrupted.
"""

from __future__ import annotations


class StackError(Exception):
    """An expected failure, told in one sentence.

    what: one clear sentence. why: the cause, if it is not already in `what`. next: a command or an action.
    """

    exit_status = 1

    def __init__(self, what: str, *, why: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next = next

    def to_json(self) -> dict[str, str]:
        return {"error": self.what, "why": self.why, "next": self.next}


class NotSo(StackError):
    """What was asked for is not the case: unhealthy, infeasible, a regression."""


class BadInput(StackError):
    """A flag, a file or a value that the user gave cannot be used."""

    exit_status = 2


class MissingPart(StackError):
    """The machine lacks something: an engine, a bus, a Python package, a free port."""

    exit_status = 3


class Interrupted(StackError):
    """The user stopped the command (ctrl-C or SIGTERM)."""

    exit_status = 4
