"""What `claude-settings` wrote, and what it took out again."""

from __future__ import annotations

from collections.abc import Sequence

from llmstack.client.settings import Undone, Written
from llmstack.commands import command_line
from llmstack.render.output import show


def show_written(written: Written, where: Sequence[str]) -> None:
    """where: the options that name the same file again."""
    show(f"{written.path}: {'written' if written.changed else 'it says so already'}")
    show(f"take it out again: {command_line('claude-settings', *where, '--undo')}")


def show_undone(undone: Undone) -> None:
    if undone.removed:
        show(f"{undone.path} did not exist before: removed")
    elif undone.whole:
        show(f"{undone.path} is byte for byte what it was")
    else:
        show(f"{undone.path} was changed since: only what llmstack wrote was taken out")
