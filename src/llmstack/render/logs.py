"""Log lines on the terminal: time, service, text; folded and coloured by level."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from llmstack.render.fitted import fitted
from llmstack.render.folding import LineFolder, LogLevel, Shown, raw
from llmstack.render.output import show_json, style
from llmstack.supervisor import LogLine

_SERVICES = {"server": "blue", "proxy": "green", "supervisor": "yellow"}
_INDENT = len("00:00:00 server ")
_LEVELS = {LogLevel.ERROR: "red", LogLevel.WARN: "yellow", LogLevel.DEBUG: "bright_black"}


def show_lines(lines: Iterable[LogLine], *, is_raw: bool) -> None:
    """Stored lines, then what folding still holds."""
    _show(lines, is_raw=is_raw, until_end=True)


def show_following(stored: Sequence[LogLine], coming: Iterable[LogLine], *, is_raw: bool) -> None:
    """Stored lines, then new ones as they come, without one that is in both."""
    already = set(stored)
    _show(stored, is_raw=is_raw, until_end=True)
    _show((line for line in coming if line not in already), is_raw=is_raw, until_end=False)


def _show(lines: Iterable[LogLine], *, is_raw: bool, until_end: bool) -> None:
    folder = LineFolder()
    fold: Callable[[LogLine], list[Shown]] = (lambda line: [raw(line)]) if is_raw else folder.receive
    for line in lines:
        for shown in fold(line):
            _write(shown)
        sys.stdout.flush()
    if until_end:
        for shown in folder.flush():
            _write(shown)
        sys.stdout.flush()


def _write(line: Shown) -> None:
    when = datetime.fromtimestamp(line.time_s).strftime("%H:%M:%S")
    name = style(f"{line.service:<6}", _SERVICES.get(line.service, "white"))
    mark = {LogLevel.ERROR: "E ", LogLevel.WARN: "W "}.get(line.level, "")  # colour is not for everybody
    text = mark + printable(line.text)
    colour = _LEVELS.get(line.level)
    lines = [style(part, colour) if colour else part for part in fitted(text, _INDENT, first=_INDENT)]
    sys.stdout.write(f"{when} {name} " + "\n".join(lines) + "\n")


def printable(text: str) -> str:
    """A log line may hold what a client sent: control characters must not reach the terminal (fault 12)."""
    return "".join(c if c == "\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show_lines_json(lines: Sequence[LogLine]) -> None:
    show_json({"lines": [{"time": line.time_s, "service": line.service, "text": line.text} for line in lines]})
