"""Lines that fit the terminal: what is too long goes on below, indented, broken between words.

Only on a terminal. Into a file or a pipe a line stays one line.
"""

from __future__ import annotations

import shutil
import sys
import textwrap

from llmstack.render.output import show


def fitted(text: str, indent: int, *, first: int = 0) -> list[str]:
    """first: how much of the first line is taken by what stands before the text."""
    if not sys.stdout.isatty():
        return [text]
    columns = max(shutil.get_terminal_size().columns, indent + 20)
    lines = textwrap.wrap(
        " " * first + text, columns, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True,
        replace_whitespace=False,
    )  # fmt: skip
    return [lines[0][first:], *lines[1:]] if lines else [""]


def show_fitted(text: str, indent: int = 2) -> None:
    for line in fitted(text, indent):
        show(line)
