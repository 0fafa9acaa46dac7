"""Tool arguments against their schema, while they stream.

Text goes through as it comes, byte for byte, except a member of the top object whose value can be wrong in a way
that has one right reading: it is held until it is whole. What is put right: arrays, objects, numbers and booleans in
quotes, whole arguments in quotes, and empty optional arrays that exclude each other. All else passes untouched.

Why while it streams: the client joins and parses the `partial_json` deltas (Messages streaming, "Input JSON delta"), so
a wrong piece cannot be taken back once it was sent, and holding everything would show a long file only at its end.

| state                | reads                                         | passes on at once             |
| -------------------- | --------------------------------------------- | ----------------------------- |
| START                | up to the opening brace                       | yes                           |
| MEMBER, KEY, VALUE   | comma, key and colon of one member            | no: the member may be dropped |
| STRING, NEST, SCALAR | its value                                     | unless the member is watched  |
| QUOTED               | the whole object as one string                | no                            |
| THROUGH              | whatever comes: nothing can be wrong any more | yes                           |
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.protocol import schema as schemas
from llmstack.protocol.json_text import value_of

_QUOTE_OR_ESCAPE = re.compile(r'["\\]')
_STRUCTURE = re.compile(r'["\[\]{}]')
_SCALAR_END = re.compile(r"[,}\s]")
_NOT_BLANK = re.compile(r"[^ \t\r\n]")
_NOT_BETWEEN = re.compile(r"[^ \t\r\n,]")
_NOT_COLON = re.compile(r"[^ \t\r\n:]")


class _At(enum.Enum):
    START = "start"  # before the opening brace
    MEMBER = "member"  # before a key, a comma or the closing brace
    KEY = "key"
    VALUE = "value"  # after the colon
    STRING = "string"
    NEST = "nest"
    NEST_STRING = "nest string"
    SCALAR = "scalar"
    QUOTED = "quoted"  # the whole object came as a string
    THROUGH = "through"  # nothing more to look at


@dataclass(frozen=True, slots=True)
class Members:
    """What is known of the top object's members: read from a tool's schema once, however often it is called."""

    schema: Any
    properties: dict[str, Any]
    droppable: frozenset[str]
    watched: frozenset[str]

    @classmethod
    def of(cls, schema: Any) -> Members:
        properties, droppable = schemas.properties_of(schema), schemas.exclusive_arrays(schema)
        watched = frozenset(
            name
            for name, part in properties.items()
            if name in droppable or schemas.never_a_string(part) or schemas.may_need_repair(part)
        )
        return cls(schema, properties, droppable, watched)


class ArgumentStream:
    """receive() gives what can be passed on now, end() what is left. What is held is a list of pieces, joined once."""

    def __init__(self, schema: Any = None) -> None:
        """schema: of the tool, or what was read from it already."""
        self.repairs = 0
        self._members = schema if isinstance(schema, Members) else Members.of(schema)
        self._at = _At.START
        self._prefix: list[str] = []  # comma, key and colon of the member that is being read
        self._key: list[str] = []
        self._name = ""
        self._value: list[str] = []  # the value so far, when it is held
        self._hold = False
        self._depth = 0
        self._escaped = False
        self._sent = 0  # members: the first one has no comma before it, whatever was dropped
        self._anything = False

    def receive(self, piece: str) -> str:
        if piece:
            self._anything = True
        if self._at is _At.THROUGH:
            return piece
        out: list[str] = []
        position, size = 0, len(piece)
        while position < size:
            position = self._step(piece, position, out)
        return "".join(out)

    def end(self) -> str:
        """Whatever is held goes out as it is: it was cut off, and guessing the rest is not repairing."""
        if not self._anything:
            # A call without arguments: OpenAI's API sends "" for it, and a client that parses "" fails.
            self._at = _At.THROUGH
            return "{}"
        if self._at is _At.QUOTED:
            return self._unquoted()
        self._at = _At.THROUGH
        return "".join(self._held())

    def _held(self) -> list[str]:
        held, self._prefix, self._value = self._prefix + self._value, [], []
        return held

    # ---- one step of the scanner: returns the new position --------------------------------------------------

    def _step(self, piece: str, position: int, out: list[str]) -> int:
        at = self._at
        if at is _At.THROUGH:
            out.append(piece[position:])
            return len(piece)
        if at is _At.STRING:
            return self._string(piece, position, out)
        if at in (_At.NEST, _At.NEST_STRING):
            return self._nest(piece, position, out)
        if at is _At.QUOTED:
            self._value.append(piece[position:])
            return len(piece)
        if at is _At.KEY:
            return self._in_key(piece, position)
        if at is _At.START:
            return self._start(piece, position, out)
        if at is _At.MEMBER:
            return self._member(piece, position, out)
        if at is _At.VALUE:
            return self._begin_value(piece, position, out)
        return self._scalar(piece, position, out)

    def _start(self, piece: str, position: int, out: list[str]) -> int:
        start = _first(_NOT_BLANK, piece, position)
        out.append(piece[position:start])
        if start == len(piece):
            return start
        char = piece[start]
        if char == "{":
            out.append(char)
            # Most schemas have nothing that can be wrong in one way: their arguments are not looked at at all.
            self._at = _At.MEMBER if self._members.watched else _At.THROUGH
        elif char == '"' and self._members.schema is not None:
            # The arguments as a JSON string of JSON: models do it, and every schema here is of an object.
            self._at = _At.QUOTED
            self._value = [char]
        else:
            self._at = _At.THROUGH
            return start
        return start + 1

    def _member(self, piece: str, position: int, out: list[str]) -> int:
        start = _first(_NOT_BETWEEN, piece, position)
        if start > position:
            self._prefix.append(piece[position:start])
        if start == len(piece):
            return start
        char = piece[start]
        if char == "}":
            # Behind a dropped last member its comma is left over.
            prefix = "".join(self._prefix)
            out.append(prefix.replace(",", "", 1) if prefix.strip() == "," else prefix)
            out.append(char)
            self._prefix = []
            self._at = _At.THROUGH
        elif char == '"':
            self._prefix.append(char)
            self._key = [char]
            self._at = _At.KEY
            self._escaped = False
        else:
            self._give_up(out)
            return start
        return start + 1

    def _in_key(self, piece: str, position: int) -> int:
        end, closed = self._string_end(piece, position)
        self._key.append(piece[position:end])
        self._prefix.append(piece[position:end])
        if closed:
            self._at = _At.VALUE
        return end

    def _begin_value(self, piece: str, position: int, out: list[str]) -> int:
        start = _first(_NOT_COLON, piece, position)
        if start > position:
            self._prefix.append(piece[position:start])
        if start == len(piece):
            return start
        char = piece[start]
        try:
            name = value_of("".join(self._key))
        except msgspec.DecodeError:
            self._give_up(out)
            return start
        self._name = str(name)
        members = self._members
        self._hold = self._name in members.watched
        # A value that is rightly a string begins with a quote as well: it must not wait for its end.
        if self._hold and char == '"' and not schemas.never_a_string(members.properties[self._name]):
            self._hold = False
        if not self._hold:
            self._send_prefix(out)
            out.append(char)
        self._value = [char] if self._hold else []
        if char == '"':
            self._at = _At.STRING
            self._escaped = False
        elif char in "[{":
            self._at = _At.NEST
            self._depth = 1
        else:
            self._at = _At.SCALAR
        return start + 1

    def _string(self, piece: str, position: int, out: list[str]) -> int:
        end, closed = self._string_end(piece, position)
        self._take(piece[position:end], out)
        if closed:
            self._finish_value(out)
        return end

    def _nest(self, piece: str, position: int, out: list[str]) -> int:
        if self._at is _At.NEST_STRING:
            end, closed = self._string_end(piece, position)
            if closed:
                self._at = _At.NEST
            self._take(piece[position:end], out)
            return end
        match = _STRUCTURE.search(piece, position)
        if match is None:
            self._take(piece[position:], out)
            return len(piece)
        self._take(piece[position : match.end()], out)
        char = match.group()
        if char == '"':
            self._at = _At.NEST_STRING
            self._escaped = False
        elif char in "[{":
            self._depth += 1
        else:
            self._depth -= 1
            if self._depth == 0:
                self._finish_value(out)
        return match.end()

    def _scalar(self, piece: str, position: int, out: list[str]) -> int:
        match = _SCALAR_END.search(piece, position)
        end = match.start() if match else len(piece)
        self._take(piece[position:end], out)
        if match:
            self._finish_value(out)
        return end

    # ---- pieces of steps ------------------------------------------------------------------------------------

    def _string_end(self, piece: str, position: int) -> tuple[int, bool]:
        """The index behind the closing quote, or the end of the piece; escapes may be cut in two."""
        if self._escaped:
            self._escaped = False
            position += 1
        while True:
            match = _QUOTE_OR_ESCAPE.search(piece, position)
            if match is None:
                return len(piece), False
            if match.group() == '"':
                return match.end(), True
            if match.end() == len(piece):
                self._escaped = True
                return len(piece), False
            position = match.end() + 1

    def _take(self, text: str, out: list[str]) -> None:
        if self._hold:
            self._value.append(text)
        else:
            out.append(text)

    def _send_prefix(self, out: list[str]) -> None:
        prefix = "".join(self._prefix)
        if self._sent == 0:
            prefix = prefix.replace(",", "", 1) if prefix.lstrip().startswith(",") else prefix
        out.append(prefix)
        self._prefix = []
        self._sent += 1

    def _finish_value(self, out: list[str]) -> None:
        self._at = _At.MEMBER
        if not self._hold:
            return
        text, self._value = "".join(self._value), []
        self._hold = False
        members = self._members
        try:
            value = value_of(text)
        except msgspec.DecodeError:
            self._send_prefix(out)
            out.append(text)
            return
        fixed, repairs = schemas.repair_value(value, members.properties[self._name])
        # An empty list says nothing, and beside its opposite many tools refuse it (schema.exclusive_arrays).
        if self._name in members.droppable and fixed == []:
            self.repairs += 1
            self._prefix = []
            return
        self._send_prefix(out)
        self.repairs += repairs
        # What needed nothing goes out as it was written: spaces and the order of keys stay the model's.
        out.append(msgspec.json.encode(fixed).decode() if repairs else text)

    def _unquoted(self) -> str:
        self._at = _At.THROUGH
        text, self._value = "".join(self._value), []
        try:
            inner = value_of(text)
            value = value_of(inner) if isinstance(inner, str) else None
        except msgspec.DecodeError:
            return text
        if not isinstance(value, dict):
            return text
        self.repairs += 1
        fixed, repairs = schemas.repair_value(value, self._members.schema)
        self.repairs += repairs
        return msgspec.json.encode(fixed).decode() if repairs else str(inner)

    def _give_up(self, out: list[str]) -> None:
        """Not the JSON this scanner knows: everything passes from here on."""
        out += self._held()
        self._at = _At.THROUGH


def _first(pattern: re.Pattern[str], piece: str, position: int) -> int:
    match = pattern.search(piece, position)
    return match.start() if match is not None else len(piece)
