"""Tools whose schema a llama-server makes no grammar of, against what protocol/grammatical.py knows: they are found by
asking the server about each alone, offered with an open schema from then on, and named in the log.

/apply-template reads tools as a completion does, and computes nothing (server-context.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from llmstack.catalog.routes import Target
from llmstack.protocol.errors import Cause, Failure, Refused
from llmstack.proxy.upstreams import Upstreams

MOST = 256  # tools that are remembered, of all upstreams
_TIMEOUT_S = 10.0
_SCHEMA = re.compile(r"json.?schema|grammar|initialize samplers|unrecognized schema", re.IGNORECASE)


class OpenedTools:
    def __init__(self, upstreams: Upstreams, log_event: Callable[[str, dict[str, Any]], None]) -> None:
        self._upstreams = upstreams
        self._log_event = log_event
        self._names: dict[tuple[str, str], None] = {}  # upstream and tool

    def of(self, target: Target) -> frozenset[str]:
        return frozenset(tool for upstream, tool in self._names if upstream == target.name)

    def forget(self) -> None:
        """Another engine may read them."""
        self._names.clear()

    async def learn(self, target: Target, failure: Failure, body: dict[str, Any]) -> bool:
        """Whether a refusal was about schemas, and tools were found that can be opened."""
        if target.kind != "llama-server" or failure.cause is not Cause.UPSTREAM or not _SCHEMA.search(failure.message):
            return False
        functions = msgspec.json.decode(bytes(body.get("tools") or b"[]"), type=list[dict[str, Any]])
        names = [name for function in functions if await self._is_refused(target, function) for name in _name(function)]
        # Where each alone is taken it is all of them together, or a fault that shows with the sampler only.
        names = names or [name for function in functions for name in _name(function)]
        new = [name for name in names if (target.name, name) not in self._names]
        if not new or len(self._names) + len(new) > MOST:
            return False
        self._names |= dict.fromkeys((target.name, name) for name in new)
        self._log_event("opened", {"upstream": target.name, "tools": new[:20], "why": failure.message[:200]})
        return True

    async def _is_refused(self, target: Target, function: dict[str, Any]) -> bool:
        question = {"messages": [{"role": "user", "content": "hi"}], "tools": [function]}
        try:
            await self._upstreams.json(target, "/apply-template", msgspec.json.encode(question), _TIMEOUT_S)
        except Refused as refused:
            return bool(_SCHEMA.search(refused.failure.message))
        return False


def _name(function: dict[str, Any]) -> list[str]:
    inner = function.get("function")
    return [inner["name"]] if isinstance(inner, dict) and isinstance(inner.get("name"), str) else []
