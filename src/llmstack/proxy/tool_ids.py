"""Ids of tool calls: the upstream's own where it is new and fit, so that templates that print it see it again."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable

from llmstack.recent import Recent

_ALPHABET = string.ascii_letters + string.digits
_FIT = re.compile(r"[A-Za-z0-9_-]{9,64}\Z")


class ToolIds:
    def __init__(self, issued_before: Callable[[str], bool], most: int = 65536) -> None:
        """issued_before: whether an earlier life of the proxy gave this id away."""
        self._issued: Recent[str, bool] = Recent(most)
        self._issued_before = issued_before

    def new(self, upstream_id: str, used: frozenset[str]) -> str:
        """used: the ids in the conversation so far."""
        tool_id = upstream_id
        taken = tool_id in self._issued or tool_id in used or self._issued_before(tool_id)
        if taken or not _FIT.match(tool_id):
            tool_id = "toolu_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))
        self._issued.put(tool_id, True)
        return tool_id
