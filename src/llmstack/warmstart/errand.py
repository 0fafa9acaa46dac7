"""What a chain of actions is about, and what its looks have brought so far."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from llmstack.stackfile import RunningServer
from llmstack.warmstart import prefix
from llmstack.warmstart.interface import Slot
from llmstack.warmstart.observations import SlotsAppeared
from llmstack.warmstart.prefix import Body
from llmstack.warmstart.slots import ServerSlots


@dataclass
class Errand:
    """body: of the request whose prefix it is about. conversation: the client's name for it, or "".

    for_request: somebody waits for the prefix. at_once: `up` asks for a warm-up. saved: slots whose contents are on
    disk. running, props: the server that answers. appeared: its slots, and what was tried with them.
    """

    body: Body = field(default_factory=dict)
    conversation: str = ""
    for_request: bool = True
    at_once: bool = False
    running: RunningServer | None = None
    props: dict[str, Any] = field(default_factory=dict)
    appeared: SlotsAppeared | None = None
    slots: list[Slot] = field(default_factory=list)
    boundary: array[int] | None = None
    saved: int = 0
    _prompt: array[int] | None = None

    @cached_property
    def key(self) -> str:
        return prefix.key_of(self.body)

    @cached_property
    def name(self) -> str:
        return f"{self.conversation or prefix.opening_of(self.body)}|{self.key}"

    async def prompt(self, slots: ServerSlots) -> array[int]:
        """In tokens. What begins can share its prefix with a saved state and little else: those tokens are known.

        Raises SlotError.
        """
        if self._prompt is None:
            stored = await slots.stored_prefix(self.key) if prefix.begins(self.body) else None
            tokens = slots.store.tokens(stored) if stored is not None else None
            self._prompt = (
                tokens + array("I", [0])  # whatever comes next is computed
                if tokens is not None
                else await slots.server.tokens(prefix.prompt_of(self.body))
            )
        return self._prompt

    async def find_boundary(self, slots: ServerSlots) -> None:
        """Raises SlotError."""
        rendered = [await slots.server.tokens(probe) for probe in prefix.probes(self.body)]
        self.boundary = rendered[0][: prefix.common(rendered)]
