"""A request, whatever API it came by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from llmstack.protocol.anthropic import Event, MessagesRequest
from llmstack.protocol.errors import Failure

# What reading a value of another shape than its API's raises.
WRONG_SHAPE = (msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an answer gets from the shell. created: s since the epoch; new_id(kind): an id that nobody else has."""

    created: int
    new_id: Callable[[str], str]


class ClientSide(Protocol):
    """Writes one answer in the words of one API."""

    def encode(self, events: list[Event]) -> bytes:
        """Server-sent events, for a client that asked for a stream."""

    def whole(self, message: dict[str, Any]) -> bytes:
        """A whole Anthropic message, for one that did not."""

    def failure(self, failure: Failure, request_id: str) -> bytes:
        """The body of an error answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """request: in neutral words. side(): a writer of one answer.

    body(): the same as a Messages body, for an upstream that speaks Messages; None: the client's own bytes are that.
    extra: fields of the client's that have no neutral name, for an upstream that speaks its API. conversation: its own
    name for the conversation, "" where it has none. as_it_is: why nothing but the client's bytes can say what it wants;
    an upstream of its own API gets them, any other refuses with this.
    """

    request: MessagesRequest
    side: Callable[[], ClientSide]
    body: Callable[[], Mapping[str, Any]] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    conversation: str = ""
    as_it_is: str = ""
