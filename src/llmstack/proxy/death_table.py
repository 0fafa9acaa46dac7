"""Which work the local server died on, and what is held against whom. No clock, socket or process.

| in flight when it died                    | who is suspected                                                         |
| ----------------------------------------- | ------------------------------------------------------------------------ |
| a slot being saved or restored            | that alone: the server does nothing else meanwhile                       |
| one request, or a prefix, or both         | both (the request begins with the prefix): a death alone                 |
| several requests                          | each of them; each is asked alone from then on (engine_deaths.py)        |

A suspect is guilty after two deaths of which one was alone, or after three. One that was answered is cleared. An
innocent request that ran beside a guilty one is thus never refused: asked alone, it is answered.

A request stands for every later one of its conversation: what is in it is in those too. Such a one inherits what is
held against it.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.recent import Recent

DEATHS = 2
SHARED_DEATHS = 3  # of one that was never alone
FORGET_S = 3600.0  # what ended it (other programs' memory, a driver) may be over by then
_SUSPECTS = 64
_encode = msgspec.json.Encoder().encode
# What may follow the last text of a request, where a later one goes on: its end, or an escape (a line break).
_GOES_ON = (b'"', b"\\", b"]", b"}")


class WorkKind(enum.Enum):
    REQUEST = "request"
    PREFIX = "prefix"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class EngineWork:
    """What the server is at work on. content: a conversation, the tokens of a prefix; nothing for a slot's state, of
    which all files count as one: what is wrong with one is wrong with the next."""

    kind: WorkKind
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """deaths: of the server, while this was in flight; alone: those with nothing else in flight. at: when it died last.

    words: how it died, for people.
    """

    deaths: int
    alone: int
    at: float
    words: str = ""

    @property
    def guilty(self) -> bool:
        return self.deaths >= SHARED_DEATHS or (self.deaths >= DEATHS and self.alone > 0)


def request(body: Mapping[str, Any], conversation: str = "") -> EngineWork:
    """Of a chat request. What differs between two tries (max_tokens, stream) is left out, and so are the tools: they
    grow while a conversation goes on. conversation: the client's name for it, "" when it has none."""
    shape = [conversation, *(body.get(key) for key in ("response_format", "json_schema", "grammar"))]
    return EngineWork(WorkKind.REQUEST, _encode(shape) + _encode(body.get("messages")).rstrip(b'"]}'))


_Key = tuple[WorkKind, int, bytes]


class DeathTable:
    def __init__(self, most: int = _SUSPECTS, forget_s: float = FORGET_S) -> None:
        self._suspects: Recent[_Key, Suspicion] = Recent(most)
        self._forget_s = forget_s

    def __len__(self) -> int:
        return len(self._suspects)

    def died(self, in_flight: Iterable[EngineWork], words: str, now: float) -> None:
        work = {_key(each): each for each in in_flight}
        states = {key: each for key, each in work.items() if each.kind is WorkKind.STATE}
        kinds = [each.kind for each in work.values()]
        alone = bool(states) or max(kinds.count(WorkKind.REQUEST), kinds.count(WorkKind.PREFIX)) == 1
        for key, each in (states or work).items():
            before = self.suspicion(each, now) or Suspicion(0, 0, now)
            self._suspects.put(key, Suspicion(before.deaths + 1, before.alone + alone, now, words))

    def suspicion(self, work: EngineWork, now: float) -> Suspicion | None:
        """What is held against it, or against a request that it continues."""
        for key in [key for key in list(self._suspects) if now - self._of(key).at > self._forget_s]:
            self._suspects.pop(key)
        return max((self._of(key) for key in self._same(work)), key=lambda each: each.deaths, default=None)

    def survived(self, work: EngineWork) -> None:
        for key in self._same(work):
            self._suspects.pop(key)

    def clear(self) -> None:
        self._suspects.clear()

    def guilty(self, kind: WorkKind, now: float) -> int:
        """How many are refused now."""
        held = [self._of(key) for key in list(self._suspects) if key[0] is kind]
        return sum(each.guilty and now - each.at <= self._forget_s for each in held)

    def _of(self, key: _Key) -> Suspicion:
        suspicion = self._suspects.get(key)
        assert suspicion is not None
        return suspicion

    def _same(self, work: EngineWork) -> list[_Key]:
        """Its own entry, and those of requests that it continues."""
        content, same = work.content, []
        digest, length = hashlib.sha256(), 0
        for key in sorted((key for key in self._suspects if key[0] is work.kind), key=lambda key: key[1]):
            if key[1] > len(content):
                break
            digest.update(content[length : key[1]])
            length = key[1]
            whole = length == len(content)
            goes_on = work.kind is WorkKind.REQUEST and content[length : length + 1] in _GOES_ON
            if (whole or goes_on) and digest.digest() == key[2]:
                same.append(key)
        return same


def _key(work: EngineWork) -> _Key:
    return work.kind, len(work.content), hashlib.sha256(work.content).digest()
