"""What of a prompt was reused, and where and why the rest was not: a request against the one before it.

The messages as they go upstream are compared in their order, tools and template settings first, because that is how
a template lays them out. Only positions, names and sizes are logged, never text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.recent import Recent
from llmstack.warmstart.prefix import SETTINGS, Body, common_length, prompt_of

_CONVERSATIONS = 32  # a body is mostly shared with the one after it
FRESH_TOKENS = 64  # template marks and the end of the last answer are computed again in any case


@dataclass(frozen=True, slots=True)
class Divergence:
    """field: a path into the request (messages[3].content); byte: where in it; why: one of a few words."""

    field: str
    byte: int
    why: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Tokens: reused and in all. at: the first difference to the conversation's last request, None: it only grew."""

    reused: int
    total: int
    at: Divergence | None
    why: str

    def to_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"reused": self.reused, "of": self.total, "why": self.why}
        if self.at is not None:
            shown |= {"field": self.at.field, "byte": self.at.byte}
        return shown


class Auditor:
    """Remembers the last request of each conversation."""

    def __init__(self) -> None:
        self._last: Recent[str, tuple[Body, int]] = Recent(_CONVERSATIONS)

    def audit(self, conversation: str, body: Body, *, reused: int, total: int) -> Audit:
        """Call once an answer is there. total: tokens of the prompt."""
        prompt = prompt_of(body)
        before = self._last.pop(conversation)
        self._last.put(conversation, (prompt, total))
        if before is None:
            return Audit(reused, total, None, "first request" if reused == 0 else "shared prefix")
        at = divergence(before[0], prompt)
        if at is not None:
            return Audit(reused, total, at, at.why)
        missing = before[1] - reused
        return Audit(reused, total, None, "grew" if missing <= FRESH_TOKENS else "lost by the server")


def divergence(before: Body, now: Body) -> Divergence | None:
    """The first place where `now` does not continue `before`."""
    for name in SETTINGS:
        old, new = _bytes(before.get(name)), _bytes(now.get(name))
        if old != new:
            return Divergence(name, common_length(old, new), "tools changed" if name == "tools" else "settings changed")
    messages: list[Any] = now.get("messages") or []
    for number, old in enumerate(before.get("messages") or []):
        where = f"messages[{number}]"
        if number >= len(messages):
            return Divergence(where, 0, "history shortened")
        difference = _message(old, messages[number], where)
        if difference is not None:
            return difference
    return None


def _message(old: dict[str, Any], new: dict[str, Any], where: str) -> Divergence | None:
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) == new.get(name):
            continue
        before, now = _text(old.get(name)), _text(new.get(name))
        return Divergence(f"{where}.{name}", common_length(before, now), _why(str(old.get("role")), name, before, now))
    return None


def _why(role: str, name: str, old: bytes, new: bytes) -> str:
    if role == "system":
        return "system text changed"
    if name == "tool_calls":
        return "tool call rewritten by the client"
    if name == "reasoning_content":
        return "reasoning changed or dropped"
    if new.startswith(old):
        return "text added to an earlier message"
    return "history rewritten"


def _text(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else _bytes(value)


def _bytes(value: Any) -> bytes:
    return b"" if value is None else msgspec.json.encode(value)
