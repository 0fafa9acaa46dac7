"""Keys for others: made, listed, rotated and revoked. The proxy sees each change at its next request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack import stackfile
from llmstack.access.book import KeyBook, change_book, read_book
from llmstack.access.keys import (
    ClientKey,
    Standing,
    checked_globs,
    checked_name,
    digest_of,
    end_of,
    in_words,
    new_key,
    new_secret,
    span_s,
)
from llmstack.access.listed import KeyList, list_keys
from llmstack.access.use import read_use
from llmstack.commands import command_line
from llmstack.deploy.reached_at import urls
from llmstack.errors import BadInput, NotSo
from llmstack.paths import Home


@dataclass(frozen=True, slots=True)
class NewKey:
    """secret: the key itself, known here and to its holder only. urls: where it is used. grace_s: of the one before."""

    key: ClientKey
    secret: str
    urls: tuple[str, ...] = ()
    is_open: bool = False
    grace_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        key = self.key
        return {
            "name": key.name,
            "key": self.secret,
            "models": list(key.models),
            "tokens_per_day": key.tokens_per_day,
            "expires": key.expires,
            "urls": list(self.urls),
            "grace_s": self.grace_s,
        }


def listed(home: Home, now: float) -> KeyList:
    return list_keys(read_book(home), read_use(home), now)


def add(
    home: Home,
    name: str,
    now: float,
    *,
    models: Sequence[str] = (),
    tokens_per_day: int | None = None,
    expires: str | None = None,
) -> NewKey:
    """Raises BadInput, also for a name whose key still counts."""
    name, globs = checked_name(name), checked_globs(models)
    end = end_of(expires, now) if expires is not None else None
    secret = new_secret()

    def with_new(book: KeyBook) -> KeyBook:
        before = book.named(name)
        if before is not None and before.standing(now) is not Standing.REVOKED:
            raise BadInput(
                f"{before.name} has a key already",
                next=f"{command_line('key', 'rotate', before.name)}   replaces it; "
                f"{command_line('key', 'revoke', before.name)}   ends it",
            )
        return book.with_key(new_key(name, secret, now, models=globs, tokens_per_day=tokens_per_day, expires=end))

    return _new(home, change_book(home, with_new), name, secret)


def rotate(home: Home, name: str, now: float, *, grace: str, expires: str | None = None) -> NewKey:
    """The same limits, another key. Raises BadInput, NotSo for one that does not count any more."""
    grace_s = span_s(grace)
    if grace_s is None:
        raise BadInput(f"--grace {grace} is no span of time", next="for example: --grace 10m, --grace 0")
    end = end_of(expires, now) if expires is not None else None
    secret = new_secret()

    def with_other(book: KeyBook) -> KeyBook:
        key = _named(book, name)
        if key.standing(now) is Standing.REVOKED:
            raise NotSo(f"the key of {key.name} was revoked", next=command_line("key", "add", key.name))
        if end is not None:
            key = msgspec.structs.replace(key, expires=end)
        if key.standing(now) is Standing.EXPIRED:
            raise NotSo(
                f"the key of {key.name} expired at {in_words(key.expires or now)}, and so would another",
                next=command_line("key", "rotate", key.name, "--expires", "30d"),
            )
        return book.changed(key.rotated(digest_of(secret.encode()), now, grace_s))

    return _new(home, change_book(home, with_other), name, secret, grace_s)


def revoke(home: Home, name: str, now: float) -> ClientKey:
    """Raises BadInput for a name that there is no key of. Revoking twice is once."""

    def without(book: KeyBook) -> KeyBook:
        key = _named(book, name)
        return book if key.revoked is not None else book.changed(msgspec.structs.replace(key, revoked=now))

    return _named(change_book(home, without), name)


def require(home: Home, name: str) -> ClientKey:
    """Raises BadInput for a name that there is no key of."""
    return _named(read_book(home), name)


def _named(book: KeyBook, name: str) -> ClientKey:
    key = book.named(name)
    if key is None:
        names = ", ".join(one.name for one in book.keys)
        raise BadInput(
            f"there is no key of {name}",
            why=f"there are keys of {names}" if names else "there are no keys yet",
            next=command_line("key", "list") if names else command_line("key", "add", name),
        )
    return key


def _new(home: Home, book: KeyBook, name: str, secret: str, grace_s: float | None = None) -> NewKey:
    proxy = stackfile.read_proxy(home) or stackfile.ProxyEntry()
    return NewKey(_named(book, name), secret, urls(proxy), proxy.is_open, grace_s)
