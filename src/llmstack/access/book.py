"""client-keys.json: all keys of a home. `key` changes it under a lock; the proxy reads it again when it changes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from llmstack.access.keys import ClientKey, Standing
from llmstack.commands import command_line
from llmstack.errors import BadInput, NotSo
from llmstack.paths import Home, write_private

MOST_KEYS = 256
_LARGEST = 4 << 20  # bytes of the file
FORMAT = 1


class _Written(msgspec.Struct):
    keys: tuple[ClientKey, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class KeyBook:
    """keys: in the order in which they were added, revoked ones among them, so that their senders are told so."""

    keys: tuple[ClientKey, ...] = ()
    _by_digest: Mapping[str, ClientKey] = field(init=False)

    def __post_init__(self) -> None:
        # A table, and no comparison in constant time: what is looked up is a hash, which nobody can bring nearer to
        # one of these step by step.
        every = {one.digest: key for key in self.keys for one in key.former} | {key.digest: key for key in self.keys}
        object.__setattr__(self, "_by_digest", every)

    def of_digest(self, digest: str) -> ClientKey | None:
        return self._by_digest.get(digest)

    def named(self, name: str) -> ClientKey | None:
        """Names differ in more than the case of their letters."""
        return next((key for key in self.keys if key.name.casefold() == name.casefold()), None)

    def active(self, now: float) -> tuple[ClientKey, ...]:
        return tuple(key for key in self.keys if key.standing(now) is Standing.ACTIVE)

    def with_key(self, key: ClientKey) -> KeyBook:
        """In place of the one of that name. Raises NotSo when the book is full of keys that count."""
        others = [one for one in self.keys if one.name.casefold() != key.name.casefold()]
        if len(others) >= MOST_KEYS:
            ended = next((one for one in others if one.standing(key.created) is not Standing.ACTIVE), None)
            if ended is None:
                raise NotSo(
                    f"there are {MOST_KEYS} keys already", next=f"{command_line('key', 'revoke', 'NAME')}   ends one"
                )
            others.remove(ended)
        before = [one for one in self.keys if one in others]
        return KeyBook((*before, key))

    def changed(self, key: ClientKey) -> KeyBook:
        """The same keys in the same order, this one as it is now."""
        return KeyBook(tuple(key if one.id == key.id else one for one in self.keys))


def read_book(home: Home) -> KeyBook:
    """Empty where there is no file. Raises BadInput for one that others could have read or written, or that is none."""
    path = home.client_keys
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return KeyBook()
    except OSError as error:
        raise BadInput(f"{path} cannot be read", why=error.strerror or str(error)) from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise BadInput(
                f"{path} is no plain file of yours", next=f"move it away, then: {command_line('key', 'add', 'NAME')}"
            )
        if status.st_mode & 0o077:
            raise BadInput(f"{path} can be read by other users", next=f"chmod 600 {path}")
        try:
            data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise ValueError("it is too large")
            keys = msgspec.json.decode(data, type=_Written).keys
        except (ValueError, RecursionError) as error:  # msgspec.DecodeError and UnicodeDecodeError are ValueErrors
            raise BadInput(
                f"{path} is damaged, and no key in it counts",
                why=str(error),
                next=f"move it away, then give everybody a new key: {command_line('key', 'add', 'NAME')}",
            ) from None
    return KeyBook(keys)


def change_book(home: Home, change: Callable[[KeyBook], KeyBook]) -> KeyBook:
    """The book after a change, on disk. Raises BadInput, and what the change raises; nothing is then written."""
    with _lock(home):
        book = change(read_book(home))
        write_private(home.client_keys, msgspec.json.format(msgspec.json.encode(_Written(book.keys)), indent=1) + b"\n")
        return book


@contextlib.contextmanager
def _lock(home: Home) -> Iterator[None]:
    """Two `key add` at once: both are kept."""
    home.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(home.state / "client-keys.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
