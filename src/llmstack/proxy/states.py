"""The slots of one life of the server: what they hold, what of it is on disk, and how it comes back."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmstack.proxy.slots import Slot, SlotCalls, SlotError
from llmstack.snapshots import Entry, Served, Store, seal
from llmstack.snapshots.store import Kind
from llmstack.warm import prefix
from llmstack.warm.prefix import MIN_TOKENS

WAIT_S = 60.0  # for a slot that is not busy


@dataclass(frozen=True, slots=True)
class Held:
    """What a slot holds, while its last task is still this one; entry: the same on disk."""

    task: int
    entry: Entry
    tokens: array[int]


@dataclass(slots=True)
class States:
    """marker: what the server calls this life of its own. seal: what its states belong to (snapshots/seal.py).

    places: as many as it has slots.
    """

    marker: str
    served: Served
    template: str
    seal: str
    calls: SlotCalls
    store: Store
    say: Callable[[str, dict[str, Any]], None]
    places: asyncio.Semaphore
    held: dict[int, Held] = field(default_factory=dict)

    async def idle(self) -> list[Slot]:
        """Waits for one: the request would stand in the server's own queue just as long. Raises SlotError."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            slots = [slot for slot in await self.calls.slots() if not slot.busy]
            if slots:
                return slots
            await asyncio.sleep(0.05)
        raise SlotError("every slot is busy")

    def held_by(self, slot: Slot) -> Held | None:
        held = self.held.get(slot.number)
        return held if held is not None and held.task == slot.task else None

    async def usable(self) -> list[Entry]:
        return await asyncio.to_thread(self.store.usable, self.served.folder, self.seal)

    async def prefix_of(self, key: str) -> Entry | None:
        return next((entry for entry in await self.usable() if entry.kind == "prefix" and entry.key == key), None)

    async def learn(self, slots: list[Slot], key: str) -> None:
        """Slots that somebody else filled are saved: the file says what they hold."""
        for slot in slots:
            await self.set_aside(slot, key)

    async def set_aside(self, slot: Slot, key: str) -> None:
        """What a slot holds is saved before something else takes its place, unless it is on disk already."""
        if slot.tokens < MIN_TOKENS or self.held_by(slot) is not None:
            return
        entry = await self.save(slot.number, "conversation", key or f"slot {slot.number}")
        tokens = self.store.tokens(entry) if entry is not None else None
        if entry is not None and tokens is not None:
            await self.holds(slot.number, entry, tokens)

    async def bring_back(self, slots: list[Slot], prompt: array[int], key: str) -> Entry | None:
        """Restores the state that saves the most of `prompt`, unless a slot holds as much; None when none did.

        key: the conversation to whose name is saved what has to make room.
        """
        rolls_back = self.served.rolls_back
        there = 0
        for slot in slots:
            held = self.held_by(slot)
            if held is not None:
                there = max(there, prefix.reusable(held.tokens, prompt, rolls_back=rolls_back))
        best: Entry | None = None
        most = there + MIN_TOKENS - 1
        for entry in await self.usable():
            saved = self.store.tokens(entry)
            gain = prefix.reusable(saved, prompt, rolls_back=rolls_back) if saved is not None else 0
            if gain > most:
                best, most = entry, gain
        if best is None:
            return None
        slot = min(slots, key=lambda slot: slot.tokens)
        await self.set_aside(slot, key)
        return best if await self.restore(slot.number, best) else None

    async def save(self, slot: int, kind: Kind, key: str, exactly: array[int] | None = None) -> Entry | None:
        """None when it could not be saved; the reason is told."""
        folder = self.served.folder
        try:
            name = self.store.begin(folder)
        except OSError as error:
            self.say("snapshot", {"result": "dropped", "kind": kind, "why": str(error.strerror)})
            return None
        try:
            tokens, written = await self.calls.save(slot, name)
            if tokens < MIN_TOKENS:
                self.store.abandon(folder, name)
                return None
            entry = await asyncio.to_thread(self._finish, name, kind, key, written, exactly)
        except (SlotError, OSError) as error:
            self.store.abandon(folder, name)
            self.say("snapshot", {"result": "dropped", "kind": kind, "why": str(error)[:200]})
            return None
        except BaseException:
            self.store.abandon(folder, name)
            raise
        if entry is not None:
            self.say("snapshot", {"result": "saved", "kind": kind, "tokens": entry.tokens, "bytes": entry.size})
        return entry

    def _finish(self, name: str, kind: Kind, key: str, written: int, exactly: array[int] | None) -> Entry | None:
        folder = self.served.folder
        if seal(self.served.argv, self.template) != self.seal:
            self.store.abandon(folder, name)
            self.say("snapshot", {"result": "dropped", "kind": kind, "why": "the model's files have changed"})
            return None
        return self.store.finish(
            folder, name, kind=kind, key=key, seal=self.seal, model=self.served.model, written=written, exactly=exactly
        )

    async def restore(self, slot: int, entry: Entry) -> bool:
        """False when it cannot be used; it is gone then, and why is told."""
        tokens = self.store.tokens(entry) if await asyncio.to_thread(self.store.intact, entry) else None
        if tokens is None:
            return False
        began = time.monotonic()
        try:
            restored = await self.calls.restore(slot, entry.file)
        except SlotError as error:
            self.store.discard(entry, f"the server refused it: {error}"[:200])
            return False
        if restored != entry.tokens:
            self.store.discard(entry, f"the server took {restored} of its {entry.tokens} tokens")
            return False
        self.store.touch(entry)
        spent = round((time.monotonic() - began) * 1000)
        self.say("warm", {"result": "restored", "kind": entry.kind, "tokens": entry.tokens, "ms": spent})
        await self.holds(slot, entry, tokens)
        return True

    async def holds(self, number: int, entry: Entry, tokens: array[int]) -> None:
        for slot in await self.calls.slots():
            if slot.number == number:
                self.held[number] = Held(slot.task, entry, tokens)

    async def save_all(self) -> int:
        """What the slots hold goes to disk; returns how many are there. Busy slots are left out."""
        saved = 0
        for slot in await self.calls.slots():
            if slot.busy or slot.tokens < MIN_TOKENS:
                continue
            await self.set_aside(slot, f"slot {slot.number}")
            held = self.held_by(slot)
            if held is not None:
                self.store.touch(held.entry)
                saved += 1
        return saved
