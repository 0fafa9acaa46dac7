"""Where output goes: the result to stdout, progress and errors to stderr; colour only on a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar, runtime_checkable

import click
import msgspec

from llmstack.errors import BadInput, StackError

if TYPE_CHECKING:
    from llmstack.fetch.progress import TransferProgress as Download


_R = TypeVar("_R")


def show_json(result: Any) -> None:
    """One JSON object on stdout, and nothing else there."""
    text = msgspec.json.format(msgspec.json.encode(result, enc_hook=_plain), indent=2).decode()
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a locale without these letters: JSON has escapes for them
        text = json.dumps(json.loads(text), indent=2)
    sys.stdout.write(text + "\n")


@runtime_checkable
class HasJson(Protocol):
    def to_json(self) -> Any: ...


def _plain(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def emit(result: _R, as_json: bool, in_words: Callable[[_R], None]) -> None:
    """The result of a command: one JSON object, or what `in_words` prints of it.

    As JSON a result is what its `to_json` returns; without one it is data as it stands (a dict, a record).
    """
    if as_json:
        show_json(result.to_json() if isinstance(result, HasJson) else result)
    else:
        in_words(result)


# Control characters, except line breaks, tabs, and the colours that `style` makes: whatever a file or a server put
# into a name, it moves no cursor, writes no clipboard and renames no window.
_CONTROL = re.compile(r"(\x1b\[[0-9;]*m)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """Text as it may reach a terminal."""
    return _CONTROL.sub(lambda match: match[1] or match[0].encode("unicode_escape").decode(), text)


def show(text: str) -> None:
    click.echo(safe(text))


def show_error(error: StackError, *, as_json: bool) -> None:
    if as_json:
        show_json(error.to_json())
    click.echo(f"{style('error:', 'red', sys.stderr)} {safe(error.what)}", err=True)
    if error.why:
        for number, line in enumerate(safe(error.why).splitlines()):
            click.echo(f"{'  why:' if number == 0 else '      '} {line}", err=True)
    if error.next:
        click.echo(f"{style(' next:', 'cyan', sys.stderr)} {safe(error.next)}", err=True)


def warn(text: str) -> None:
    click.echo(f"{style('warning:', 'yellow', sys.stderr)} {safe(text)}", err=True)


def confirm(question: str, unasked: str) -> bool:
    """Asks on the terminal. Raises BadInput where nobody can answer. unasked: the command that does not ask."""
    if not sys.stdin.isatty():
        raise BadInput("there is no terminal to ask at, and this cannot be undone", next=unasked)
    return click.confirm(question, default=False, err=True)


def has_colour(stream: TextIO) -> bool:
    """A terminal that did not opt out (NO_COLOR, no-color.org)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def has_cursor(stream: TextIO) -> bool:
    """A terminal that can go back and write over what stands there."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def style(text: str, colour: str, stream: TextIO | None = None) -> str:
    return click.style(text, fg=colour) if has_colour(stream or sys.stdout) else text


def columns(stream: TextIO) -> int:
    """Width of the terminal behind a stream; 0 where there is none, and nothing needs to fit."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):
        return 80


def clip(text: str, width: int) -> str:
    """At most `width` characters: what is too long loses its middle, since names differ at their ends."""
    if len(text) <= width:
        return text
    tail = max((width - 1) // 2, 0)
    return text[: max(width - 1 - tail, 0)] + "…" + text[len(text) - tail :]


def overwrite(text: str) -> None:
    """One line of stderr's terminal in place of the one before. A line that wrapped could not be overwritten."""
    sys.stderr.write(f"\r\x1b[K{clip(safe(text), max(columns(sys.stderr) - 1, 20))}")


QUIET_S = 1.0  # what ends within it needs no progress


class StepProgress:
    """Steps of a long command on stderr: one line that is overwritten on a terminal, a line each elsewhere."""

    def __init__(self, quiet_s: float = 0.0, *, as_json: bool = False) -> None:
        """quiet_s: of a command that is mostly quick: nothing is shown before, then the step that it is at; and nothing
        at all to a program that reads its JSON."""
        self._terminal = has_cursor(sys.stderr)
        self._began = time.monotonic()
        self._stage: object = None
        self._lock = threading.Lock()
        self._held = ""
        self._quiet = threading.Timer(quiet_s, self._speak) if quiet_s else None
        if self._quiet is not None and (sys.stderr.isatty() or not as_json):
            self._quiet.daemon = True
            self._quiet.start()

    def __call__(self, step: str) -> None:
        with self._lock:
            if self._quiet is not None:
                self._held = step
                return
            self._show(step)

    def _speak(self) -> None:
        """It takes long after all."""
        with self._lock:
            if self._quiet is not None:
                self._quiet = None
                if self._held:
                    self._show(self._held)

    def _show(self, step: str) -> None:
        if self._terminal:
            overwrite(f"… {step}")
        else:
            sys.stderr.write(f"[{time.monotonic() - self._began:5.1f} s] {safe(step)}\n")
        sys.stderr.flush()

    def download(self, step: Download) -> None:
        """A pull's report; on a terminal at most ten updates a second, elsewhere one line per stage."""
        from llmstack.fetch.progress import Stage

        if step.stage is Stage.TERMS:
            self.done()
            warn(step.note)
            return
        share = f" {step.done / step.total:.0%} of {step.total / 1e9:.2f} GB" if step.total else ""
        text = f"{step.stage.value} {step.file}{share} {step.note}".rstrip()
        if not self._terminal and step.stage == self._stage:
            return
        self._stage = step.stage
        self(text)

    def done(self) -> None:
        with self._lock:
            if self._quiet is not None:
                self._held = ""  # nothing was shown that would have to go
            elif self._terminal:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()

    def __enter__(self) -> StepProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.done()
        with self._lock:
            if self._quiet is not None:
                self._quiet.cancel()
