"""What the warm start needs of one server. It knows nothing of HTTP: proxy/slot_server.py is the adapter.

The shapes are llama-server's (tools/server/server-context.cpp): a slot is one sequence of the KV cache with the prompt
that was computed into it; a saved state is a file that one slot was written to and that another one can be read from.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from llmstack.stackfile import RunningServer
from llmstack.warmstart.prefix import Body

LogEvent = Callable[[str, dict[str, Any]], None]  # (event, fields): one line of the proxy's log


def silent(event: str, fields: dict[str, Any]) -> None:
    """A LogEvent for commands that only read."""


class SlotError(Exception):
    """The server did not do what it was asked, or did not answer; the text is its own."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot as /slots shows it (server_slot::to_json). task: the id of the last task it worked on, which changes
    with every request; tokens: how many its prompt holds."""

    number: int
    busy: bool
    task: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Prefilled:
    """slot: where it was computed. cached and computed: tokens of the prompt that were there, and that were not."""

    slot: int
    cached: int
    computed: int


class SlotServer(Protocol):
    """One llama-server. Every method that asks it raises SlotError when it does not answer or refuses."""

    def running(self) -> RunningServer | None:
        """The server of the last `up`; None when none is deployed here."""

    async def props(self) -> dict[str, Any]:
        """GET /props. `media_marker` is random per start of the process (server-common.cpp: get_media_marker), so
        another one means another process, with empty slots. `chat_template`: the template in use."""

    async def slots(self) -> list[Slot]: ...

    async def tokens(self, body: Body) -> array[int]:
        """The prompt of a chat request, as the model's own template and tokenizer make it."""

    async def count(self, body: Body) -> int:
        """How many tokens `tokens` would give, of a request with whatever else is in it."""

    async def prefill(self, tokens: array[int], progress: Callable[[int, int, int], None]) -> Prefilled:
        """Computes these tokens and nothing behind them. progress(done, total, cached), in tokens."""

    async def save(self, slot: int, name: str) -> tuple[int, int]:
        """Writes a slot to the file `name` below --slot-save-path; tokens saved and bytes written."""

    async def restore(self, slot: int, name: str) -> int:
        """Reads that file into a slot, which is emptied before; tokens restored."""

    def dies_on_states(self) -> bool:
        """Whether processes of it ended, again and again, while a state was saved or restored."""

    def dies_on(self, tokens: array[int]) -> bool:
        """Whether they did while these tokens were computed."""
