"""What the model really generated, by tool_use id, so that the next turn's prompt continues the last one.

The client does not send back what it was sent: Claude Code reorders the keys of Bash, strips a leading `cd`, decodes
\\u escapes. Each of these would make llama-server compute the rest of the conversation again. So the raw arguments
(and the upstream's own call id, which some templates print) are kept here and put back on replay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from llmstack.protocol.json_text import value_of
from llmstack.recent import Recent

MOST = 8192  # calls
MOST_BYTES = 8 * 1024 * 1024  # of arguments


@dataclass(frozen=True, slots=True)
class Generated:
    """upstream_id: the id the upstream gave the call, or "". arguments: its raw argument text. extra: JSON that the
    upstream sent beside the call and wants back (`extra_content`), or "". caller: the function that called the tool by
    its name (loaded_tools.py), whose arguments these are; or ""."""

    upstream_id: str
    arguments: str
    extra: str = ""
    caller: str = ""


class Replay:
    """The last calls, bounded in number and in bytes of arguments; the least recently used go first."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._calls: Recent[str, Generated] = Recent(most, most_size=most_bytes, size_of=_size)
        self._unsaved: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def remember(self, tool_use_id: str, generated: Generated) -> None:
        """Only arguments that are a JSON object: a template that parses them must not fail on a replay."""
        try:
            if not isinstance(value_of(generated.arguments), dict):
                return
        except msgspec.DecodeError:
            return
        self._calls.put(tool_use_id, generated)
        self._unsaved[tool_use_id] = None

    def recall(self, calls: Iterable[tuple[str, Generated]]) -> None:
        """Calls of an earlier life, the oldest first: all of them older than what is here."""
        for tool_use_id, generated in reversed(list(calls)):
            self._calls.put_oldest(tool_use_id, generated)

    def unsaved(self) -> list[tuple[str, Generated]]:
        """What was remembered since this was last asked, and is still here."""
        names, self._unsaved = self._unsaved, {}
        return [(name, generated) for name in names if (generated := self._calls.get(name)) is not None]

    def get(self, tool_use_id: str) -> Generated | None:
        return self._calls.get(tool_use_id)

    def knows(self, tool_use_id: str) -> bool:
        return tool_use_id in self._calls


def _size(generated: Generated) -> int:
    return len(generated.arguments) + len(generated.extra)
