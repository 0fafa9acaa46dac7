"""Who asks: the owner with the stack's own token, or the holder of a key; what each may ask for, and what it used.

| the key                             | what its sender gets                                                    |
| ----------------------------------- | ----------------------------------------------------------------------- |
| is none of ours                     | 401                                                                     |
| expired, was revoked, was replaced  | 401 that says so                                                        |
| used up the tokens of its day       | 429, with the seconds until the day ends (UTC) as `retry-after`         |
| may not ask for that model          | 403 that names those it may                                             |

It is looked at when a request comes, and again when it was its turn after a wait. A request that has begun is finished.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from llmstack.access.keys import OWNER, ClientKey, Standing, digest_of, in_words
from llmstack.access.use import day_ends_in_s, read_use, write_use
from llmstack.commands import command_line
from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused
from llmstack.protocol.metering import Tokens
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.respond import Scope

LogEvent = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Caller:
    """name: as the log and the figures have it. key_id: of the key's entry; empty for the owner."""

    name: str = OWNER
    key_id: str = ""

    @property
    def is_owner(self) -> bool:
        return not self.key_id


THE_OWNER = Caller()


class Admission(NamedTuple):
    """caller: whose key it is, where it is one of ours. failure: why its request may not pass."""

    caller: Caller | None
    failure: Failure | None = None


def caller_of(scope: Scope) -> Caller:
    """Of a request that passed the gate."""
    caller: Caller = scope.get("caller", THE_OWNER)
    return caller


class Callers:
    """clock: the wall clock, in seconds since the epoch; days and expiry are its."""

    def __init__(self, live: LiveConfig, log_event: LogEvent, clock: Callable[[], float] = time.time) -> None:
        self._live = live
        self._log_event = log_event
        self._clock = clock
        self._use = read_use(live.home)
        self._writes = True

    def admit(self, offered: Sequence[bytes]) -> Admission:
        """Of several that a request offers, one good one is enough."""
        # Every candidate is compared, so that the time says nothing about which one was near.
        good = [hmac.compare_digest(value, self._live.token) for value in offered]
        if any(good):
            return self._noted(THE_OWNER)
        refused: Admission | None = None
        now = self._clock()
        for value in offered:
            digest = digest_of(value)
            key = self._live.keys.of_digest(digest)
            if key is None:
                continue
            caller = Caller(key.name, key.id)
            refusal = self._refusal(key, key.standing_of(digest, now), now)
            if refusal is None:
                return self._noted(caller)
            refused = refused or Admission(caller, refusal)
        if refused is not None:
            return refused
        what = "the token is wrong" if offered else "no token was sent"
        message = f"{what}; `{command_line('token')}` prints the one this proxy takes"
        return Admission(None, Failure(FailureKind.AUTHENTICATION, message))

    def refusal(self, caller: Caller) -> Failure | None:
        """Why a request that was admitted may not go on: its key ended while it waited."""
        if caller.is_owner:
            return None
        self._live.refresh()  # what was revoked a moment ago may not go on either
        key = self._key(caller)
        now = self._clock()
        if key is None:
            return _refused(f"the key of {caller.name} was revoked")
        return self._refusal(key, key.standing(now), now)

    def may_ask_for(self, caller: Caller, model: str) -> bool:
        key = self._key(caller)
        return caller.is_owner or (key is not None and key.may_ask_for(model))

    def require_model(self, caller: Caller, model: str) -> None:
        """Raises Refused for a model that this key may not ask for."""
        if self.may_ask_for(caller, model):
            return
        key = self._key(caller)
        names = f"; it may ask for {', '.join(key.models)}" if key is not None else ""
        message = f"the key of {caller.name} may not ask for {model[:200]!r}{names}"
        raise Refused(Failure(FailureKind.PERMISSION, message, Cause.KEY))

    def charge(self, caller: Caller, tokens: Tokens) -> None:
        """What was computed: tokens that the prompt cache held cost nothing."""
        self._use.charge(caller.name, tokens.computed, self._clock())

    def changed_use(self) -> bytes | None:
        """What is to be written down now; None where nothing was used since."""
        if not self._use.changed:
            return None
        self._use.keep({OWNER, *(key.name for key in self._live.keys.keys)})
        return self._use.encoded()

    def write(self, data: bytes) -> None:
        """Blocks. A disk that is full costs the record, never an answer; it is said once."""
        try:
            write_use(self._live.home, data)
            self._writes = True
        except OSError as error:
            self._use.changed = True  # tried again
            if self._writes:
                self._log_event("keys", {"result": "what they used cannot be written down", "why": str(error)})
            self._writes = False

    def _noted(self, caller: Caller) -> Admission:
        self._use.note_request(caller.name, self._clock())
        return Admission(caller)

    def _key(self, caller: Caller) -> ClientKey | None:
        key = self._live.keys.named(caller.name)
        return key if key is not None and key.id == caller.key_id else None

    def _refusal(self, key: ClientKey, standing: Standing, now: float) -> Failure | None:
        name = key.name
        if standing is Standing.REVOKED:
            return _refused(f"the key of {name} was revoked")
        if standing is Standing.REPLACED:
            return _refused(f"this key of {name} was replaced by a newer one")
        if standing is Standing.EXPIRED:
            again = command_line("key", "rotate", name, "--expires", "30d")
            return _refused(f"the key of {name} expired at {in_words(key.expires or now)}; `{again}` gives another")
        used = self._use.of(name, now).tokens
        if key.tokens_per_day is None or used < key.tokens_per_day:
            return None
        left_s = day_ends_in_s(now)
        message = (
            f"the key of {name} has used its tokens of today ({used:,} of {key.tokens_per_day:,}); "
            f"the next day begins at 00:00 UTC, in {left_s // 3600} h {left_s % 3600 // 60} min"
        )
        return Failure(FailureKind.RATE_LIMIT, message, Cause.KEY, retry_after_s=left_s)


def _refused(message: str) -> Failure:
    return Failure(FailureKind.AUTHENTICATION, message, Cause.KEY)
