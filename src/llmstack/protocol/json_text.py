"""JSON that a model or an upstream wrote: it may be anything, nest without an end, and come in pieces."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_STRUCTURE = re.compile(r'["\[\]{}]')
_QUOTE_OR_ESCAPE = re.compile(r'["\\]')
_BLANK = re.compile(r"[ \t\r\n]*+")
MOST_DEPTH = 512  # msgspec raises RecursionError a little above
_SCALAR = 64  # characters of a number or a word that is looked at again with each piece


def value_of(text: str | bytes) -> Any:
    """Raises msgspec.DecodeError, for nesting without an end as well: that is the writer's fault, not the reader's."""
    try:
        return msgspec.json.decode(text)
    except (RecursionError, UnicodeError) as error:
        raise msgspec.DecodeError(str(error)) from None


class JsonExtent:
    """Where a JSON value that comes in pieces ends. Each character is looked at once, however it is cut."""

    __slots__ = ("_begun", "_depth", "_escaped", "_in_string", "broken", "closed")

    def __init__(self) -> None:
        self.closed = False  # the object, array or string has ended
        self.broken = False  # it is a scalar, or nests too deeply, or something stands behind its end
        self._begun = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def receive(self, piece: str) -> int:
        """The index behind the end of the value, when it is in this piece; otherwise the length of the piece."""
        position = 0
        if not self._begun:
            position = self._begin(piece)
        while position < len(piece) and not (self.closed or self.broken):
            position = self._in_text(piece, position) if self._in_string else self._in_structure(piece, position)
        return position if self.closed else len(piece)

    def _begin(self, piece: str) -> int:
        match = _BLANK.match(piece)
        position = match.end() if match else 0
        if position < len(piece):
            self._begun = True
            self.broken = piece[position] not in '{["'
        return position

    def _in_structure(self, piece: str, position: int) -> int:
        match = _STRUCTURE.search(piece, position)
        if match is None:
            return len(piece)
        mark = match.group()
        if mark == '"':
            self._in_string = True
        elif mark in "{[":
            self._depth += 1
            self.broken = self._depth > MOST_DEPTH
        else:
            self._depth -= 1
            self.closed = self._depth <= 0
        return match.end()

    def _in_text(self, piece: str, position: int) -> int:
        if self._escaped:
            self._escaped = False
            return position + 1
        match = _QUOTE_OR_ESCAPE.search(piece, position)
        if match is None:
            return len(piece)
        if match.group() == "\\":
            self._escaped = True
        else:
            self._in_string = False
            self.closed = self._depth == 0
        return match.end()


class JsonPieces:
    """A JSON text in pieces, and whether it is whole. It is decoded at most once, at its end."""

    __slots__ = ("_decodes", "_extent", "_seen", "pieces", "size")

    def __init__(self, pieces: list[str] | None = None) -> None:
        self.pieces = pieces if pieces is not None else []
        self.size = sum(map(len, self.pieces))
        self._extent = JsonExtent()
        self._seen = 0
        self._decodes: bool | None = None

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.size += len(text)

    def __str__(self) -> str:
        return "".join(self.pieces)

    def whole(self) -> bool:
        extent = self._extent
        while self._seen < len(self.pieces):
            piece = self.pieces[self._seen]
            self._seen += 1
            behind = 0 if extent.closed else extent.receive(piece)
            if extent.closed and not extent.broken and piece[behind:].strip(" \t\r\n"):
                extent.broken = True
        if extent.closed and not extent.broken:
            if self._decodes is None:
                self._decodes = _decodes(str(self))
            return self._decodes
        return not extent.closed and self.size <= _SCALAR and _decodes(str(self))


def _decodes(text: str) -> bool:
    try:
        value_of(text)
    except msgspec.DecodeError:
        return False
    return True
