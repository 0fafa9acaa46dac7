"""A key of one person: whose it is, what it may ask for, until when. Of the key itself only a hash is kept.

The hash is a single SHA-256. A slow one (scrypt, Argon2) is for passwords, which can be guessed; this key is 256 random
bits, which no number of guesses reaches, and it is looked up at every request.
"""

from __future__ import annotations

import datetime
import enum
import fnmatch
import hashlib
import re
import secrets
import unicodedata
from collections.abc import Sequence

import msgspec

from llmstack.errors import BadInput

OWNER = "owner"  # who sends the stack's own token
PREFIX = "sk-llmstack-"
GRACE_S = 600.0  # how long the key before a rotation still counts, where nobody says otherwise
DAY_S = 86_400
MOST_FORMER = 4
MOST_GLOBS = 64
_NAME = re.compile(r"\w[\w.@+-]{0,31}")
_SPAN = re.compile(r"(\d{1,6})\s*(s|m|min|h|d|w)")
_SPAN_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": DAY_S, "w": 7 * DAY_S}
_FOREVER = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC).timestamp()


class Standing(enum.StrEnum):
    """Of a key, without what it used: whether it counts at all."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    REPLACED = "replaced"  # it was rotated, and the time in which both count is over


class FormerKey(msgspec.Struct, frozen=True):
    """The hash of a key before a rotation; until: when it ceases to count."""

    digest: str
    until: float


class ClientKey(msgspec.Struct, frozen=True):
    """id: of this key and those that replace it; another `add` of the name makes another. Times: seconds since
    the epoch.

    models: globs of the names that it may ask for; none: every name. tokens_per_day: None for no limit.
    """

    name: str
    id: str
    digest: str
    created: float
    models: tuple[str, ...] = ()
    tokens_per_day: int | None = None
    expires: float | None = None
    revoked: float | None = None
    former: tuple[FormerKey, ...] = ()

    def standing(self, now: float) -> Standing:
        if self.revoked is not None:
            return Standing.REVOKED
        if self.expires is not None and now >= self.expires:
            return Standing.EXPIRED
        return Standing.ACTIVE

    def standing_of(self, digest: str, now: float) -> Standing:
        """Of the key with this hash: the one of now, or one that it replaced."""
        if digest != self.digest and not any(one.digest == digest and now < one.until for one in self.former):
            return Standing.REPLACED
        return self.standing(now)

    def may_ask_for(self, model: str) -> bool:
        return not self.models or any(fnmatch.fnmatchcase(model, glob) for glob in self.models)

    def rotated(self, digest: str, now: float, grace_s: float) -> ClientKey:
        """The same key with another secret; the old one counts for the grace."""
        former = (FormerKey(self.digest, now + grace_s), *self.former)[:MOST_FORMER]
        return msgspec.structs.replace(self, digest=digest, former=former)


def new_secret() -> str:
    """256 random bits, as a client sends them."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def new_key(
    name: str,
    secret: str,
    now: float,
    *,
    models: Sequence[str] = (),
    tokens_per_day: int | None = None,
    expires: float | None = None,
) -> ClientKey:
    return ClientKey(
        name, secrets.token_hex(8), digest_of(secret.encode()), now, tuple(models), tokens_per_day, expires
    )


def checked_name(name: str) -> str:
    """As it is stored. Raises BadInput for what is no name."""
    normal = unicodedata.normalize("NFC", name.strip())
    if not _NAME.fullmatch(normal):
        raise BadInput(
            f"{name!r} is no name for a key", why="letters and digits, with . @ + - _ between them, 32 at most"
        )
    if normal.casefold() == OWNER:
        raise BadInput(f"{OWNER} is the name of the stack's own token in logs and figures", next="take another name")
    return normal


def checked_globs(globs: Sequence[str]) -> tuple[str, ...]:
    """Of `--models a*,b --models c`. Raises BadInput."""
    names = tuple(dict.fromkeys(part.strip() for glob in globs for part in glob.split(",")))
    if any(not name or len(name) > 200 or not name.isprintable() for name in names):
        raise BadInput("--models takes names of models, * and ? among them", next="for example: --models 'claude-*'")
    if len(names) > MOST_GLOBS:
        raise BadInput(f"--models takes {MOST_GLOBS} names at most", next="a glob for several: --models 'claude-*'")
    return names


def span_s(text: str) -> float | None:
    """Seconds of `30d`, `12h`, `10m`, `0`; None for what is no span of time."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        return 0.0 if text.strip() == "0" else None
    return float(int(match[1]) * _SPAN_S[match[2]])


def end_of(text: str, now: float) -> float:
    """When `--expires` ends a key: `30d` from now on, or the end of a day (UTC), or a moment. Raises BadInput."""
    span = span_s(text)
    moment = now + span if span is not None else _moment(text)
    if moment is None or moment >= _FOREVER:
        raise BadInput(
            f"--expires {text} is no date and no span of time", next="for example: --expires 30d, --expires 2030-12-31"
        )
    if moment <= now:
        raise BadInput(f"--expires {text} is in the past", next="for example: --expires 30d")
    return moment


def _moment(text: str) -> float | None:
    try:
        if len(text.strip()) == len("2030-12-31"):
            day = datetime.date.fromisoformat(text.strip())
            return datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp() + DAY_S
        moment = datetime.datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def in_words(moment: float) -> str:
    """2030-12-31 10:00 UTC. The end of a day is that day, as it was given."""
    time = datetime.datetime.fromtimestamp(moment, datetime.UTC)
    if time.hour == time.minute == time.second == 0:
        return f"the end of {(time - datetime.timedelta(days=1)):%Y-%m-%d} (UTC)"
    return f"{time:%Y-%m-%d %H:%M} UTC"
