"""Lines that fit the terminal: what is too long goes on below, indented, broken between words.

Only on a terminal. Into a file or a pipe a line stays one line.
"""

from __future__ import annotations

import shutil
import sys
import textwrap

from llmstack.commands import spelled
from llmstack.render.output import show

BELOW = 4  # the indent of what stands below its label
_STRIP = 30  # columns; in fewer every second line would hold one word
_NO_BREAK = "\x00"


def wrapped(text: str, width: int, **options: str | bool) -> list[str]:
    """Lines of at most this width, broken between words. A command stays on one line, whatever its width: broken, it
    could not be copied."""
    for command in sorted(spelled(), key=len, reverse=True):
        text = text.replace(command, command.replace(" ", _NO_BREAK))
    lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False, **options)  # type: ignore[arg-type]
    return [line.replace(_NO_BREAK, " ") for line in lines] or [""]


def fitted(text: str, indent: int, *, first: int = 0) -> list[str]:
    """first: how much of the first line is taken by what stands before the text."""
    if not sys.stdout.isatty():
        return [text]
    columns = max(shutil.get_terminal_size().columns, indent + 20)
    before = "\x01" * (first - 1) + " " if first else ""  # spaces would be dropped
    lines = wrapped(before + text, columns, subsequent_indent=" " * indent, replace_whitespace=False)
    return [lines[0][first:], *lines[1:]]


def two_columns(label: str, text: str, column: int, width: int) -> list[str]:
    """A label, and from this column on what belongs to it; below it where only a strip would be left for that."""
    if width - column >= _STRIP:
        first, *more = wrapped(text, width - column)
        return [f"{label:<{column}}{first}", *(f"{'':<{column}}{line}" for line in more)]
    return [label.rstrip(), *(f"{'':<{BELOW}}{line}" for line in wrapped(text, max(width - BELOW, 20)))]


def show_fitted(text: str, indent: int = 2) -> None:
    for line in fitted(text, indent):
        show(line)


def span(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 180 else f"{seconds / 60:.0f} min"
