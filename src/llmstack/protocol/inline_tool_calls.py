"""Tool calls that a model wrote into its text, and thinking it left inline.

Three forms are known (leaked_call.py): JSON in <tool_call> (Qwen3, Hermes), <function=NAME><parameter=KEY> with or
without its <tool_call> (Qwen3-Coder), and a bare {"name": ..., "arguments": ...}. One becomes a call only if it names a
tool of the request and stands outside a code fence; everything else stays the text it was, to the byte.

A model may write the same mark a million times, so every pass is linear: what is held grows in place, `_looked` says
how far it holds no end, and what turned out to be no call is read again only as far as `_spare` goes.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmstack.protocol.json_text import JsonExtent
from llmstack.protocol.leaked_call import InlineCall, read_bare, read_calls

_OPEN, _CLOSE, _FUNCTION, _FUNCTION_CLOSE = b"<tool_call>", b"</tool_call>", b"<function=", b"</function>"
_THINK, _THOUGHT = b"<think>", b"</think>"
_MARK = re.compile(rb"```|<tool_call>|<function=")
_MARKS = (b"```", _OPEN, _FUNCTION)
_BARE_KEYS = (b'"name"', b'"arguments"', b'"parameters"', b'"type"', b'"function"')
_LONGEST_KEY = max(map(len, _BARE_KEYS))
_BLANK = re.compile(rb"[ \t\r\n\f\v]*+")
_NAME = re.compile(rb"[^>\n]{1,200}+>")
_LONGEST_NAME = 200
_HELD_AT_MOST = 1024 * 1024
_GAP = 4096  # blanks in front of a mark or between two that belong together
_SPARE = 256 * 1024
_SPARE_PER_BYTE = 4


@dataclass(frozen=True, slots=True)
class Thought:
    text: str


class _In(enum.Enum):
    TEXT = "text"
    CALL = "call"
    BARE = "bare"
    THINK = "think"
    AFTER = "after"  # behind a call that may still have its closing tag


_Piece = str | InlineCall | Thought


class InlineToolCallParser:
    def __init__(self, tools: Mapping[str, Any], *, thinking: bool = True) -> None:
        self._tools = tools
        self._thinking = thinking
        self._in = _In.TEXT
        self._held = bytearray()
        self._looked = 0  # how far what is held was looked at in this state
        self._begun = False  # text that is not blank has been seen
        self._fenced = False
        self._extent = JsonExtent()
        self._spare = _SPARE  # bytes that may still be read again after they were no call

    def idle(self, text: str) -> bool:
        """True when this text certainly passes: nearly every delta takes this way out."""
        if self._held or self._in is not _In.TEXT:
            return False
        if not self._begun:
            return False
        return not self._tools or ("<" not in text and "`" not in text)

    def receive(self, text: str) -> list[_Piece]:
        out: list[_Piece] = []
        data = text.encode("utf-8", "surrogatepass")
        self._held += data
        self._spare += _SPARE_PER_BYTE * len(data)
        while self._held and self._step(out):
            pass
        return _joined(out)

    def end(self) -> list[_Piece]:
        """No more text: what is held is a call without its end, or text after all."""
        text, state = self._take(len(self._held)), self._in
        self._enter(_In.TEXT)
        if not text:
            return []
        if state is _In.THINK:
            return [Thought(text)]
        if state is _In.AFTER:
            rest = text.strip()
            return [] if not rest or _CLOSE.startswith(rest.encode("utf-8", "surrogatepass")) else [text]
        if state is _In.CALL and (calls := read_calls(text, self._tools)):
            return [*calls]
        call = read_bare(text, self._tools) if state is _In.BARE else None
        return [call if call is not None else text]

    # ---- one step: False when more text is needed -----------------------------------------------------------

    def _step(self, out: list[_Piece]) -> bool:
        if self._in is _In.TEXT:
            return self._text(out)
        if self._in is _In.THINK:
            return self._think(out)
        if self._in is _In.BARE:
            return self._bare_step(out)
        if self._in is _In.AFTER:
            return self._after()
        return self._call(out)

    def _text(self, out: list[_Piece]) -> bool:
        held = self._held
        if not self._begun and not self._begin():
            return self._in is not _In.TEXT
        if not self._tools:
            out.append(self._take(len(held)))
            return False
        position = 0
        while (mark := _MARK.search(held, position)) is not None:
            start = mark.start()
            if mark.group() == b"```":
                self._fenced = not self._fenced
                position = mark.end()
            elif self._fenced or held[start - 1 : start] == b"`":
                position = mark.end()
            else:
                if start:
                    out.append(self._take(start))
                self._enter(_In.CALL)
                return True
        keep = _partial_mark(held, position)
        # A backtick directly before what is kept decides whether it is quoted, so it is kept as well.
        if position < keep < len(held) and held[keep - 1 : keep] == b"`" and held[keep : keep + 1] == b"<":
            keep -= 1
        if keep:
            out.append(self._take(keep))
        return False

    def _begin(self) -> bool:
        """True once the text has begun as text; otherwise more is needed, or another state was entered."""
        held = self._held
        start = self._behind_blanks(self._looked)
        self._looked = start
        if start > _GAP:
            self._begun = True
            return True
        if start == len(held):
            return False
        if self._thinking and held.startswith(_THINK, start):
            del held[: start + len(_THINK)]
            self._enter(_In.THINK)
            return False
        if self._thinking and _THINK.startswith(held[start : start + len(_THINK)]):
            return False
        if self._tools and held.startswith(b"{", start):
            self._enter(_In.BARE)
            return False
        self._begun = True
        return True

    def _think(self, out: list[_Piece]) -> bool:
        held = self._held
        end = held.find(_THOUGHT)
        if end >= 0:
            if end:
                out.append(Thought(self._take(end)))
            del held[: len(_THOUGHT)]
            del held[: len(held) - len(held.lstrip(b"\n"))]
            self._enter(_In.TEXT)
            self._thinking = False
            return True
        keep = _partial(held, _THOUGHT)
        if keep:
            out.append(Thought(self._take(keep)))
        return False

    def _call(self, out: list[_Piece]) -> bool:
        held = self._held
        in_json = False
        if held.startswith(_OPEN):
            inner = self._behind_blanks(len(_OPEN))
            if inner - len(_OPEN) > _GAP:
                return self._no_call(out, len(_OPEN))
            begun = held[inner : inner + len(_FUNCTION)]
            in_json = begun.startswith((b"{", b"["))
            if not in_json:
                if begun != _FUNCTION:
                    return False if _FUNCTION.startswith(begun) else self._no_call(out, len(_OPEN))
                if not self._named(inner):
                    return self._no_call(out, len(_OPEN))
                # A parameter may itself speak of </tool_call>: only behind </function> is it the end.
                end = self._end_of_function(closed=True)
            else:
                end = self._end_of(_CLOSE)
        else:
            if not self._named(0):
                return self._no_call(out, len(_FUNCTION))
            end = self._end_of_function(closed=False)
        if end < 0:
            return self._no_call(out, len(_OPEN), len(held)) if len(held) > _HELD_AT_MOST else False
        calls = read_calls(_decode(held[:end]), self._tools)
        if not calls:
            # In what looks like functions another call may stand: made alone, it would be half of what was meant.
            return self._no_call(out, len(_FUNCTION) if in_json else end, end)
        out += calls
        del held[:end]
        self._enter(_In.AFTER)
        return True

    def _named(self, start: int) -> bool:
        """False when the function that is called here is certainly none of the tools."""
        start += len(_FUNCTION)
        name = _NAME.match(self._held, start)
        if name is not None:
            return _decode(name.group()[:-1]).strip() in self._tools
        so_far = self._held[start : start + _LONGEST_NAME + 1]
        return len(so_far) <= _LONGEST_NAME and b"\n" not in so_far and b">" not in so_far

    def _end_of(self, mark: bytes) -> int:
        """Where the held text ends behind this mark; -1 when it is not there yet."""
        start = self._held.find(mark, self._looked)
        if start >= 0:
            return start + len(mark)
        self._looked = max(0, len(self._held) - len(mark) + 1)
        return -1

    def _end_of_function(self, *, closed: bool) -> int:
        """Behind </function>, and the </tool_call> that must follow where it is `closed` by one."""
        while (end := self._end_of(_FUNCTION_CLOSE)) >= 0:
            if not closed:
                return end
            close = self._behind_blanks(end)
            if self._held.startswith(_CLOSE, close):
                return close + len(_CLOSE)
            if close - end <= _GAP and _CLOSE.startswith(self._held[close : close + len(_CLOSE)]):
                self._looked = end - len(_FUNCTION_CLOSE)  # it may still come
                return -1
            self._looked = end
        return -1

    def _after(self) -> bool:
        """Swallows the closing tag that belongs to the call, and the blank lines around it."""
        held = self._held
        start = self._behind_blanks(0)
        del held[:start]
        if held.startswith(_CLOSE):
            del held[: len(_CLOSE)]
            return True
        if not held or _CLOSE.startswith(held[: len(_CLOSE)]):
            return False
        self._enter(_In.TEXT)
        self._begun = False  # the next call may follow in the bare form
        return True

    def _no_call(self, out: list[_Piece], size: int, cost: int = 0) -> bool:
        """What was taken for a call is text: its mark, or all that was read, when that was read too often."""
        self._spare -= cost
        out.append(self._take(size if self._spare > 0 else max(size, cost)))
        self._enter(_In.TEXT)
        return bool(self._held)

    def _bare_step(self, out: list[_Piece]) -> bool:
        held = self._held
        if self._looked == 0:
            start = self._behind_blanks(0)
            key = self._behind_blanks(start + 1)
            begun = held[key : key + _LONGEST_KEY]
            if key - start > _GAP or (
                begun and not any(begun.startswith(k) or k.startswith(begun) for k in _BARE_KEYS)
            ):
                return self._not_bare()
            if len(begun) < _LONGEST_KEY and not begun.startswith(_BARE_KEYS):
                return False
        piece = _decode(held[self._looked :])
        behind = self._extent.receive(piece)
        if self._extent.broken or (not self._extent.closed and len(held) > _HELD_AT_MOST):
            return self._not_bare()
        if not self._extent.closed:
            self._looked = len(held)
            return False
        end = self._looked + len(piece[:behind].encode("utf-8", "surrogatepass"))
        call = read_bare(_decode(held[:end]), self._tools)
        if call is None:
            return self._not_bare()
        out.append(call)
        del held[:end]
        self._enter(_In.AFTER)
        return True

    def _not_bare(self) -> bool:
        self._enter(_In.TEXT)
        self._begun = True
        return True

    # ---- what is held -----------------------------------------------------------------------------------------

    def _enter(self, state: _In) -> None:
        self._in = state
        self._looked = 0
        self._extent = JsonExtent()

    def _take(self, size: int) -> str:
        """The first bytes, which are held no longer (a bytearray loses its head without moving the rest)."""
        text = _decode(self._held[:size])
        del self._held[:size]
        return text

    def _behind_blanks(self, position: int) -> int:
        match = _BLANK.match(self._held, position)
        return match.end() if match is not None else len(self._held)


def _decode(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "surrogatepass")


def _joined(pieces: list[_Piece]) -> list[_Piece]:
    """Texts beside each other as one: a mark that was none must not make a delta of its own."""
    if len(pieces) < 2:
        return pieces
    out: list[_Piece] = []
    texts: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        if texts:
            out.append("".join(texts))
            texts = []
        out.append(piece)
    return [*out, "".join(texts)] if texts else out


def _partial(text: bytearray, mark: bytes) -> int:
    """Where a mark that is not complete yet may begin at the end of the text; its length when nowhere."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:size]):
            return len(text) - size
    return len(text)


def _partial_mark(text: bytearray, position: int) -> int:
    return max(min(_partial(text, mark) for mark in _MARKS), position)
