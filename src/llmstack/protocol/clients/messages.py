"""Clients of Anthropic's Messages API: the neutral words are their own."""

from __future__ import annotations

from typing import Any

import msgspec

from llmstack.protocol import sse
from llmstack.protocol.anthropic import Event
from llmstack.protocol.clients.asked import Asked, Stamp
from llmstack.protocol.errors import Failure
from llmstack.protocol.request import decode


class MessagesSide:
    def encode(self, events: list[Event]) -> bytes:
        return sse.encode_all(events)

    def whole(self, message: dict[str, Any]) -> bytes:
        return msgspec.json.encode(message)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure.to_anthropic(request_id)


def asked(body: bytes, stamp: Stamp | None = None) -> Asked:
    """Raises Refused."""
    return Asked(decode(body), MessagesSide)
