"""A memory with a bound: what was used last stays, what was used least recently goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most `most` entries and, where `size_of` measures a value, at most `most_size` of them all together.

    A value larger than `most_size` by itself is not remembered at all.
    """

    def __init__(self, most: int, *, most_size: int = 0, size_of: Callable[[V], int] | None = None) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._most = most
        self._most_size = most_size
        self._size_of = size_of
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[K]:
        """The keys, the least recently used first."""
        return iter(self._entries)

    def get(self, key: K) -> V | None:
        """Looking at an entry is using it."""
        value = self._entries.get(key)
        if value is not None:
            try:
                self._entries.move_to_end(key)
            except KeyError:  # another thread has just removed it
                return None
        return value

    def put(self, key: K, value: V) -> None:
        self.pop(key)
        self._entries[key] = value
        self._grow(value)

    def put_oldest(self, key: K, value: V) -> None:
        """An entry from before all others: the first to go. What is there under this key already stays."""
        if key not in self._entries:
            self._entries[key] = value
            self._entries.move_to_end(key, last=False)
            self._grow(value)

    def pop(self, key: K) -> V | None:
        value = self._entries.pop(key, None)
        if value is not None and self._size_of is not None:
            self._size -= self._size_of(value)
        return value

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0

    def _grow(self, value: V) -> None:
        if self._size_of is not None:
            self._size += self._size_of(value)
        while self._entries and (len(self._entries) > self._most or self._oversize()):
            self.pop(next(iter(self._entries)))

    def _oversize(self) -> bool:
        return self._size_of is not None and self._size > self._most_size
