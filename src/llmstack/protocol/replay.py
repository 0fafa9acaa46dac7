"""What the model really generated, by tool_use id, so that the next turn's prompt continues the last one.

The client does not send back what it was sent: Claude Code reorders the keys of Bash, strips a leading `cd`, decodes
\\u escapes. Each of these would make llama-server compute the rest of the conversation again. So the raw arguments
(and the upstream's own call id, which some templates print) are kept here and put back on replay.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

MOST = 8192  # calls
MOST_BYTES = 8 * 1024 * 1024  # of arguments


@dataclass(frozen=True, slots=True)
class Generated:
    """upstream_id: the id the upstream gave the call, or "". arguments: its raw argument text."""

    upstream_id: str
    arguments: str


class Replay:
    """The last calls, bounded in number and in bytes of arguments; the least recently used go first."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._kept: OrderedDict[str, Generated] = OrderedDict()
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._unsaved: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def remember(self, tool_use_id: str, generated: Generated) -> None:
        """Only arguments that are a JSON object: a template that parses them must not fail on a replay."""
        try:
            if not isinstance(msgspec.json.decode(generated.arguments), dict):
                return
        except msgspec.DecodeError:
            return
        old = self._kept.pop(tool_use_id, None)
        if old is not None:
            self._bytes -= len(old.arguments)
        self._kept[tool_use_id] = generated
        self._bytes += len(generated.arguments)
        self._unsaved[tool_use_id] = None
        self._bound()

    def recall(self, calls: Iterable[tuple[str, Generated]]) -> None:
        """Calls of an earlier life, the oldest first: all of them older than what is here."""
        for tool_use_id, generated in reversed(list(calls)):
            if tool_use_id not in self._kept:
                self._kept[tool_use_id] = generated
                self._kept.move_to_end(tool_use_id, last=False)
                self._bytes += len(generated.arguments)
        self._bound()

    def unsaved(self) -> list[tuple[str, Generated]]:
        """What was remembered since this was last asked, and is still here."""
        names, self._unsaved = self._unsaved, {}
        return [(name, self._kept[name]) for name in names if name in self._kept]

    def _bound(self) -> None:
        while self._kept and (len(self._kept) > self._most or self._bytes > self._most_bytes):
            _, gone = self._kept.popitem(last=False)
            self._bytes -= len(gone.arguments)

    def get(self, tool_use_id: str) -> Generated | None:
        found = self._kept.get(tool_use_id)
        if found is not None:
            self._kept.move_to_end(tool_use_id)
        return found

    def knows(self, tool_use_id: str) -> bool:
        return tool_use_id in self._kept
