"""The keys with what they used, as `key list` and `status` show them: never a key, never its hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmstack.access.book import KeyBook
from llmstack.access.keys import OWNER, ClientKey, Standing
from llmstack.access.use import KeyUse, UseOfKeys


@dataclass(frozen=True, slots=True)
class ListedKey:
    """use: of today. standing: `exhausted` too, where today's tokens are used up."""

    key: ClientKey
    standing: str
    use: KeyUse
    former_until: float | None = None

    def to_json(self) -> dict[str, Any]:
        key = self.key
        return {
            "name": key.name,
            "state": self.standing,
            "models": list(key.models),
            "tokens_per_day": key.tokens_per_day,
            "tokens_today": self.use.tokens,
            "requests_today": self.use.requests,
            "last_used": self.use.last_used or None,
            "created": key.created,
            "expires": key.expires,
            "revoked": key.revoked,
            "former_until": self.former_until,
        }


@dataclass(frozen=True, slots=True)
class KeyList:
    """keys: of others; owner: what the stack's own token used."""

    keys: tuple[ListedKey, ...]
    owner: KeyUse
    now: float

    def to_json(self) -> dict[str, Any]:
        return {
            "keys": [key.to_json() for key in self.keys],
            "owner": {
                "tokens_today": self.owner.tokens,
                "requests_today": self.owner.requests,
                "last_used": self.owner.last_used or None,
            },
        }


def list_keys(book: KeyBook, use: UseOfKeys, now: float) -> KeyList:
    return KeyList(tuple(_listed(key, use.of, now) for key in book.keys), use.of(OWNER, now), now)


def _listed(key: ClientKey, use_of: Callable[[str, float], KeyUse], now: float) -> ListedKey:
    use, standing = use_of(key.name, now), key.standing(now)
    used_up = key.tokens_per_day is not None and use.tokens >= key.tokens_per_day
    word = "exhausted" if standing is Standing.ACTIVE and used_up else standing.value
    former = max((one.until for one in key.former if one.until > now), default=None)
    return ListedKey(key, word, use, former if standing is Standing.ACTIVE else None)
