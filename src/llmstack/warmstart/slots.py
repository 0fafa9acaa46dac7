"""The slots of one process of the server: what they hold, what of it is on disk, and how it goes there and back."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmstack.stackfile import RunningServer
from llmstack.warmstart.fingerprint import fingerprint
from llmstack.warmstart.interface import LogEvent, Slot, SlotError, SlotServer
from llmstack.warmstart.observations import ServerTraits, SlotView
from llmstack.warmstart.prefix import MIN_TOKENS
from llmstack.warmstart.store import StateKind, StateLabel, Store, StoredState

WAIT_S = 60.0  # for a slot that is not busy
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class SlotContents:
    """What a slot holds, while its last task is still this one; state: the same on disk."""

    task: int
    state: StoredState
    tokens: array[int]


@dataclass(slots=True)
class ServerSlots:
    """marker: the server's `media_marker`, random per start; a new one means a new process with empty slots.

    folder: where its states are. template: the chat template in use. fingerprint: what its states belong to
    (fingerprint.py). turns: as many as it has slots, for a server without a cache of its own.
    """

    marker: str
    running: RunningServer
    folder: Path
    template: str
    fingerprint: str
    server: SlotServer
    store: Store
    log_event: LogEvent
    turns: asyncio.Semaphore
    contents: dict[int, SlotContents] = field(default_factory=dict)

    @property
    def traits(self) -> ServerTraits:
        running = self.running
        return ServerTraits(
            own_cache=running.cache_ram_mib != 0,
            window=running.saves_in_vain,
            rolls_back=running.rolls_back,
            dies_on_states=self.server.dies_on_states(),
        )

    @classmethod
    async def of(
        cls, server: SlotServer, running: RunningServer, props: dict[str, Any], store: Store, log_event: LogEvent
    ) -> ServerSlots:
        """Of the process that answers now; props: what it says of itself. Raises OSError when a file of it is gone."""
        assert running.states_folder is not None
        template = str(props.get("chat_template", ""))
        return cls(
            marker=str(props.get("media_marker", "")),
            running=running,
            folder=running.states_folder,
            template=template,
            fingerprint=await asyncio.to_thread(fingerprint, running.argv, template),
            server=server,
            store=store,
            log_event=log_event,
            turns=asyncio.Semaphore(running.n_parallel),
        )

    # ---- looking ------------------------------------------------------------------------------------------------

    async def idle(self) -> list[Slot]:
        """Waits for one: the request would stand in the server's own queue just as long. Raises SlotError."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            slots = [slot for slot in await self.server.slots() if not slot.busy]
            if slots:
                return slots
            await asyncio.sleep(_LOOK_AGAIN_S)
        raise SlotError("every slot is busy")

    def contents_of(self, slot: Slot) -> SlotContents | None:
        """None when nothing is known, or when the slot has worked since."""
        contents = self.contents.get(slot.number)
        return contents if contents is not None and contents.task == slot.task else None

    def views(self, slots: Iterable[Slot]) -> tuple[SlotView, ...]:
        pairs = ((slot, self.contents_of(slot)) for slot in slots)
        return tuple(SlotView(slot, contents.tokens if contents is not None else None) for slot, contents in pairs)

    async def usable(self) -> list[StoredState]:
        """What this server may restore, the last used first."""
        return await asyncio.to_thread(self.store.usable, self.folder, self.fingerprint)

    async def usable_at_start(self) -> list[StoredState]:
        """As `usable`; what lies in the folder and is another server's is logged."""
        usable = await self.usable()
        everything = await asyncio.to_thread(self.store.states)
        ignored = sum(state.folder == str(self.folder) for state in everything) - len(usable)
        if ignored:
            why = "of another model, build or template"
            self.log_event("warm", {"result": "ignored", "snapshots": ignored, "why": why})
        return usable

    async def usable_with_tokens(self) -> tuple[tuple[StoredState, array[int]], ...]:
        pairs = [(state, self.store.tokens(state)) for state in await self.usable()]
        return tuple((state, tokens) for state, tokens in pairs if tokens is not None)

    async def stored_prefix(self, key: str) -> StoredState | None:
        return next((state for state in await self.usable() if state.kind == "prefix" and state.key == key), None)

    def count_as_used(self, slot: Slot) -> bool:
        """Marks the state of what a slot holds as used now; False when it has none."""
        contents = self.contents_of(slot)
        if contents is not None:
            self.store.touch(contents.state)
        return contents is not None

    # ---- to the disk ---------------------------------------------------------------------------------------------

    async def save_conversation(self, number: int, name: str) -> None:
        """Whatever a slot holds: the file says what that is."""
        await self.save(number, "conversation", name)

    async def save(
        self, number: int, kind: StateKind, key: str, exactly: array[int] | None = None
    ) -> StoredState | None:
        """None when it could not be saved, or is too short; the reason is logged. exactly: tokens it must hold."""
        folder = self.folder
        try:
            name = self.store.begin(folder)
        except OSError as error:
            self._dropped(kind, str(error.strerror))
            return None
        try:
            task = await self._task(number)
            tokens, written = await self.server.save(number, name)
            if tokens < MIN_TOKENS:
                self.store.abandon(folder, name)
                return None
            state = await asyncio.to_thread(self._finish, name, kind, key, written, exactly)
        except (SlotError, OSError) as error:
            self.store.abandon(folder, name)
            self._dropped(kind, str(error)[:200])
            return None
        except BaseException:
            self.store.abandon(folder, name)
            raise
        if state is not None:
            fields = {"result": "saved", "kind": kind, "tokens": state.tokens, "bytes": state.size}
            self.log_event("snapshot", fields)
            await self._holds(number, state, task)
        return state

    def _finish(
        self, name: str, kind: StateKind, key: str, written: int, exactly: array[int] | None
    ) -> StoredState | None:
        folder = self.folder
        if fingerprint(self.running.argv, self.template) != self.fingerprint:
            self.store.abandon(folder, name)
            self._dropped(kind, "the model's files have changed")
            return None
        label = StateLabel(kind, key, self.fingerprint, self.running.model)
        return self.store.finish(folder, name, label, written=written, exactly=exactly)

    def _dropped(self, kind: StateKind, why: str) -> None:
        self.log_event("snapshot", {"result": "dropped", "kind": kind, "why": why})

    # ---- and back -------------------------------------------------------------------------------------------------

    async def restore(self, number: int, state: StoredState) -> bool:
        """False when it cannot be used; it is gone then, and why is logged. Raises SlotError."""
        if not await asyncio.to_thread(self.store.intact, state) or self.store.tokens(state) is None:
            return False
        began = time.monotonic()
        task = await self._task(number)
        self.contents.pop(number, None)  # it is emptied first, and a restore is no task that would show it
        try:
            restored = await self.server.restore(number, state.file)
        except SlotError as error:
            self.store.discard(state, f"the server refused it: {error}"[:200])
            return False
        if restored != state.tokens:
            self.store.discard(state, f"the server took {restored} of its {state.tokens} tokens")
            return False
        self.store.touch(state)
        spent = round((time.monotonic() - began) * 1000)
        self.log_event("warm", {"result": "restored", "kind": state.kind, "tokens": state.tokens, "ms": spent})
        await self._holds(number, state, task)
        return True

    async def _task(self, number: int) -> int | None:
        """The last one of a slot. Raises SlotError."""
        return next((slot.task for slot in await self.server.slots() if slot.number == number), None)

    async def _holds(self, number: int, state: StoredState, task: int | None) -> None:
        """A slot was saved or restored just now, which is no task of it. task: its last one before that; where it is
        another one by now, somebody came in between, and nobody knows what is in there."""
        self.contents.pop(number, None)
        tokens = self.store.tokens(state)
        try:
            slot = next((slot for slot in await self.server.slots() if slot.number == number), None)
        except SlotError:
            return
        if slot is not None and tokens is not None and not slot.busy and slot.task == task:
            self.contents[number] = SlotContents(slot.task, state, tokens)
