"""What `env` changes in a shell, and what gives the shell back what it had.

The text that a shell evaluates holds no value of the user's: what it had moves to a variable beside (BEFORE and the
name), and comes back from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmstack.client.environment import OURS, ClientEnvironment

CHANGED = "LLMSTACK_CHANGED"  # the names that `env` set or took away, with commas
BEFORE = "LLMSTACK_BEFORE_"


@dataclass(frozen=True, slots=True)
class ShellChange:
    """In this order: variables that get another one's value, variables that are taken away, variables with a value."""

    copied: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def over(self, inherited: Mapping[str, str]) -> dict[str, str]:
        copied = {name: inherited[source] for name, source in self.copied.items() if source in inherited}
        rest = {name: value for name, value in inherited.items() if name not in self.removed}
        return rest | copied | dict(self.variables)


def led(environment: ClientEnvironment, inherited: Mapping[str, str]) -> ShellChange:
    """Leads a shell to this environment. inherited: of a shell that is led nowhere."""
    removed = tuple(name for name in environment.removed if name in inherited)
    changed = (*environment.variables, *removed)
    copied = {f"{BEFORE}{name}": name for name in changed if name in inherited}
    return ShellChange(copied, removed, {**environment.variables, CHANGED: ",".join(changed)})


def taken_back(inherited: Mapping[str, str]) -> ShellChange:
    """What gives a shell that was led somewhere what it had.

    A shell that does not say what was changed (its environment was not asked) loses what could be of ours.
    """
    if CHANGED not in inherited:
        return ShellChange(removed=OURS)
    changed = tuple(filter(None, inherited[CHANGED].split(",")))
    copied = {name: f"{BEFORE}{name}" for name in changed if f"{BEFORE}{name}" in inherited}
    others = tuple(name for name in changed if name not in copied)
    return ShellChange(copied, (*others, *copied.values(), CHANGED))
