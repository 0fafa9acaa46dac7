"""What each key used today: tokens that were computed for it, requests, and when it was last seen.

A day is one of UTC: the same for everybody, 24 hours long all the year, and the same for a service that was started
with another time zone. It is the wall clock's, whatever that does; nothing else of the proxy goes by it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import msgspec

from llmstack.access.keys import DAY_S
from llmstack.paths import Home, write_private

_LARGEST = 1 << 20  # bytes of the file
_MOST = 1 << 62


class KeyUse(msgspec.Struct):
    """day: days since the epoch, the last one in which it was used. tokens, requests: of that day."""

    day: int = 0
    tokens: int = 0
    requests: int = 0
    last_used: float = 0.0

    def today(self, now: float) -> KeyUse:
        """With nothing used yet, where another day has begun. The day before it is a clock that was set back: it counts
        on, so that nobody gets a day twice. A day long to come is a clock that was wrong: it would never begin anew."""
        return self if 0 <= self.day - day_of(now) <= 1 else KeyUse(day_of(now), 0, 0, self.last_used)


class _Written(msgspec.Struct):
    keys: dict[str, KeyUse] = {}
    format: int = 1


def day_of(now: float) -> int:
    return int(now // DAY_S)


def day_ends_in_s(now: float) -> int:
    """Whole seconds, at least one."""
    return max(1, math.ceil(DAY_S - now % DAY_S))


class UseOfKeys:
    """By name, so that a rotated key, or one that is given anew, goes on where the name was."""

    def __init__(self, keys: Mapping[str, KeyUse] | None = None) -> None:
        self._keys = dict(keys or {})
        self.changed = False

    def of(self, name: str, now: float) -> KeyUse:
        return self._keys.get(name, KeyUse()).today(now)

    def note_request(self, name: str, now: float) -> None:
        use = self.of(name, now)
        self._put(name, KeyUse(use.day, use.tokens, min(use.requests + 1, _MOST), now))

    def charge(self, name: str, tokens: int, now: float) -> None:
        use = self.of(name, now)
        self._put(name, KeyUse(use.day, min(use.tokens + max(tokens, 0), _MOST), use.requests, use.last_used))

    def _put(self, name: str, use: KeyUse) -> None:
        self._keys[name] = use
        self.changed = True

    def keep(self, names: Collection[str]) -> None:
        """Of others nothing is remembered: the file does not grow with names that are gone."""
        self._keys = {name: use for name, use in self._keys.items() if name in names}

    def encoded(self) -> bytes:
        """What is to be written; from now on it counts as such."""
        self.changed = False
        return msgspec.json.encode(_Written(self._keys))


def read_use(home: Home) -> UseOfKeys:
    """Nothing where there is no file, or one that cannot be read."""
    try:
        with home.key_use.open("rb") as file:
            return UseOfKeys(msgspec.json.decode(file.read(_LARGEST), type=_Written).keys)
    except (OSError, ValueError, RecursionError):
        return UseOfKeys()


def write_use(home: Home, data: bytes) -> None:
    write_private(home.key_use, data)
