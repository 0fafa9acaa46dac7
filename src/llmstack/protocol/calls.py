"""Tool calls of an upstream while their pieces arrive: which piece belongs to which call.

Each piece is looked at once for its own call, and for the few that wait to be shown (limits.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from llmstack.protocol.chat import ToolCallDelta
from llmstack.protocol.json_text import JsonPieces
from llmstack.protocol.limits import most
from llmstack.protocol.loaded_tools import unwrapped

_LONGEST_NAME, _AT_ONCE, _CALLS = most("call_name"), most("open_calls"), most("calls")


@dataclass(slots=True)
class PendingCall:
    """One call. key: the upstream's index. raw: its arguments, of whose pieces `sent` have gone out.

    extra: JSON beside it that the upstream wants back. nameless: its upstream gave another call the same id before.
    wrapped: the arguments as they came, where a function called this tool by its name; or "".
    """

    key: int
    upstream_id: str = ""
    name: str = ""
    raw: JsonPieces = field(default_factory=JsonPieces)
    sent: int = 0
    extra: str = ""
    nameless: bool = False
    wrapped: str = ""

    def complete(self) -> bool:
        """Whether its arguments are whole JSON: then another call's pieces may begin."""
        return self.raw.whole()

    def add(self, text: str) -> None:
        self.raw.add(text)

    def unwrap(self) -> None:
        """A call of the function that calls others becomes the call of the one that it names, if it does."""
        text = str(self.raw)
        if (inner := unwrapped(text)) is not None:
            self.wrapped = text
            self.name, self.raw = inner[0], JsonPieces([inner[1]])


class Pieces:
    """Tells the calls of one answer apart.

    Servers that repeat index 0 for every parallel call (Gemini's and Ollama's compatible APIs), that leave the index
    out, or that repeat the id in each piece, are all covered by: a known key with another id is a new call, and so is a
    name with arguments behind whole ones, unless it says the same again.
    """

    def __init__(self, caller: str = "") -> None:
        """caller: the function that calls others by name (loaded_tools.py), or ""."""
        self._caller = caller
        self._waiting: list[PendingCall] = []  # begun, and not yet shown to the client
        self._closed: set[int] = set()
        self._ids: set[str] = set()

    def __len__(self) -> int:
        """How many calls wait to be shown."""
        return len(self._waiting)

    def known(self, piece: ToolCallDelta, current: PendingCall | None) -> PendingCall | None:
        """The call this piece continues; None when it begins one, or belongs to none."""
        calls = self._waiting if current is None else [current, *self._waiting]
        name = piece.function.name if piece.function else None
        for call in reversed(calls):
            if piece.index is not None and piece.index != call.key:
                continue
            if piece.id and call.upstream_id and piece.id != call.upstream_id:
                continue
            if name and call.raw.size and (text := arguments_of(piece).strip()) and call.complete():
                if not piece.id or text != str(call.raw).strip():
                    continue
                assert piece.function is not None
                piece.function.arguments = None
            if piece.id and not call.upstream_id and not call.nameless:
                call.upstream_id = piece.id
                self._ids.add(piece.id)
            return call
        return None

    def begin(self, piece: ToolCallDelta, current: PendingCall | None) -> PendingCall | None:
        """A new call, at the end of the line; None for a tail of one that was closed as complete."""
        name = piece.function.name if piece.function else None
        count = len(self._closed) + len(self._waiting) + (current is not None)
        key = piece.index if piece.index is not None else count
        if piece.id is None and not name and key in self._closed:
            return None
        nameless = piece.id in self._ids
        call = PendingCall(key=key, upstream_id="" if nameless else piece.id or "", nameless=nameless)
        if piece.id:
            self._ids.add(piece.id)
        self._waiting.append(call)
        return call

    def next_ready(self, tools: Mapping[str, Any]) -> PendingCall | None:
        """The first call in line leaves it once its name is whole: its arguments have begun, or a tool is called so.

        The name that matters of a call by name stands in its arguments."""
        head = self._waiting[0]
        if not head.name or not (head.raw.size or head.name in tools):
            return None
        if head.name == self._caller and not head.complete():
            return None
        return self._waiting.pop(0)

    def close(self, call: PendingCall) -> None:
        """What still comes under its key is the tail of a call that is complete."""
        self._closed.add(call.key)

    def drain(self) -> list[PendingCall]:
        """All calls in line leave it, in the order in which they began."""
        waiting, self._waiting = self._waiting, []
        return waiting


def extra_of(piece: ToolCallDelta) -> str:
    """What came beside a piece, as JSON; "" for none, and for what is too large to be kept."""
    if piece.extra_content is None:
        return ""
    text = msgspec.json.encode(piece.extra_content).decode()
    return text if len(text) <= most("call_extra") else ""


def excess(call: PendingCall, waiting: int, made: int, max_arguments: int) -> str | None:
    """What is too much of a call or of all that are `waiting` or were `made`, in words."""
    if call.raw.size > max_arguments:
        return f"more than {max_arguments} bytes of arguments for one call of {call.name or 'a tool'}"
    if len(call.name) > _LONGEST_NAME:
        return f"a tool's name of more than {_LONGEST_NAME} characters"
    if waiting > _AT_ONCE:
        return f"more than {_AT_ONCE} tool calls at once"
    if made + waiting > _CALLS:
        return f"more than {_CALLS} tool calls in one answer"
    return None


def arguments_of(piece: ToolCallDelta) -> str:
    """The argument text of a piece; servers that parse it themselves send an object."""
    if piece.function is None or piece.function.arguments is None:
        return ""
    arguments = piece.function.arguments
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def known_name(name: str, tools: Mapping[str, Any]) -> str:
    """The tool's own spelling when the model only got the case wrong and one tool can be meant."""
    if name in tools or not tools:
        return name
    same = [tool for tool in tools if tool.casefold() == name.strip().casefold()]
    return same[0] if len(same) == 1 else name
