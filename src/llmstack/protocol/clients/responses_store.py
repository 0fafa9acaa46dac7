"""Responses that a later request may go on from, and the tools of threads: in memory, bounded, gone with the proxy."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.protocol.limits import most
from llmstack.recent import Recent


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """items: what was asked and answered, as a later request would send it. response: as it was answered."""

    items: bytes
    response: bytes

    @property
    def size(self) -> int:
        return len(self.items) + len(self.response)


class ResponsesStore:
    """of(owner): the part of it that is one caller's. Nobody goes on from another's response, or with its tools."""

    def __init__(self) -> None:
        self._owner = ""
        self._responses: Recent[str, StoredResponse] = Recent(
            most("stored_responses"), most_size=most("stored_bytes"), size_of=lambda stored: stored.size
        )
        self._tools: Recent[str, bytes] = Recent(256, most_size=most("stored_bytes") // 4, size_of=len)

    def of(self, owner: str) -> ResponsesStore:
        part = copy(self)
        part._owner = owner
        return part

    def _key(self, name: str) -> str:
        return f"{self._owner}\0{name}"

    def keep(self, response: dict[str, Any], items: list[Any]) -> None:
        stored = StoredResponse(msgspec.json.encode([*items, *response["output"]]), msgspec.json.encode(response))
        self._responses.put(self._key(response["id"]), stored)

    def items_of(self, response_id: str) -> list[Any] | None:
        stored = self._responses.get(self._key(response_id))
        return msgspec.json.decode(stored.items, type=list[Any]) if stored is not None else None

    def get(self, response_id: str) -> bytes | None:
        stored = self._responses.get(self._key(response_id))
        return stored.response if stored is not None else None

    def remove(self, response_id: str) -> bool:
        return self._responses.pop(self._key(response_id)) is not None

    def keep_tools(self, thread: str, tools: Any) -> None:
        if thread and tools:
            self._tools.put(self._key(thread), msgspec.json.encode(tools))

    def tools_of(self, thread: str) -> Any:
        """Those that a thread's last request with tools had."""
        data = self._tools.get(self._key(thread))
        return msgspec.json.decode(data) if data is not None else None
