"""Keeps what one server has computed: states saved and restored, so that a prefix is computed once and never again.

policy.py decides; this module observes and acts, and is the only one that changes what is remembered of the server.
One manager stands for one server. Nothing here makes a request fail: what cannot be saved or restored is computed by
the server, as without a manager.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, assert_never

from llmstack.recent import Recent
from llmstack.warmstart import actions as do
from llmstack.warmstart import observations as seen
from llmstack.warmstart import policy, prefix
from llmstack.warmstart.actions import Action
from llmstack.warmstart.errand import Errand
from llmstack.warmstart.interface import LogEvent, SlotError, SlotServer
from llmstack.warmstart.observations import Observation, ServerTraits
from llmstack.warmstart.prefix import MIN_TOKENS, Body
from llmstack.warmstart.slots import ServerSlots
from llmstack.warmstart.status import WarmingStatus
from llmstack.warmstart.store import RememberedPrefix, Store, StoredState

LOOK_S = 1.0
_NAMES_REMEMBERED = 512


class WarmStartManager:
    """up_note: the file that is there while an `up` is at work. clock: seconds."""

    def __init__(
        self,
        server: SlotServer,
        store: Store,
        up_note: Path,
        log_event: LogEvent,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.status = WarmingStatus()
        self._server = server
        self._store = store
        self._up_note = up_note
        self._log_event = log_event
        self._clock = clock
        self._changing = asyncio.Lock()  # held while the server is looked at and its slots are changed
        self._slots: ServerSlots | None = None
        self._looked = 0.0
        self._in_flight = 0
        self._quiet_since = clock()
        self._conversations: Recent[str, bool] = Recent(_NAMES_REMEMBERED)  # that this process of the server answered
        self._prefixes: Recent[str, bool] = Recent(_NAMES_REMEMBERED)
        self._latest = ""
        self._warm_up: asyncio.Task[None] | None = None
        self._warming_key = ""
        self._wanted: RememberedPrefix | None = None
        self._failures = 0  # of the wanted prefix
        self._failed_at: float | None = None
        self._comparing: asyncio.Task[bool] | None = None

    # ---- what it is called for ----------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Runs beside the requests until it is cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(LOOK_S)

    async def tick(self) -> None:
        try:
            await self._follow(seen.ClockTicks(self._in_flight, self._up_age_s()), Errand())
        except Exception as error:  # the watch must outlive whatever a server or a disk does
            self._failed(error)

    @asynccontextmanager
    async def prefix_ready(self, body: Body, conversation: str) -> AsyncIterator[None]:
        """Around one request to the server: before it is sent, what it needs is brought back or computed.

        body: as it is sent. conversation: the client's name for it, or "".
        """
        self._in_flight += 1
        try:
            async with self._turn():
                try:
                    await self._prepare(body, conversation)
                except Exception as error:  # a fault here must not become a fault of the request
                    self._failed(error)
                yield
        finally:
            self._in_flight -= 1
            self._quiet_since = self._clock()

    def _turn(self) -> AbstractAsyncContextManager[Any]:
        if self._slots is None or not policy.one_request_per_slot(self._slots.traits):
            return nullcontext()
        return self._slots.turns

    async def _prepare(self, body: Body, conversation: str) -> None:
        errand = Errand(body, conversation)
        warming = self._warm_up is not None and self._warming_key == errand.key
        await self._follow(seen.RequestArrived(self._traits, prefix.size_of(body), warming), errand)

    async def save_all(self) -> int:
        """Saves what the slots hold as conversations; returns how many are on disk now. Raises SlotError."""
        self._stop_warm_up()
        errand = Errand()
        async with self._changing:
            await self._follow(seen.StackStops(self._traits), errand)
        return errand.saved

    async def restore_again(self) -> dict[str, Any]:
        """After a health check has used the slots of a fresh server. Raises SlotError."""
        self._stop_warm_up()
        async with self._changing:
            await self._look()
            if self._slots is not None:
                await self._arrive(self._slots, overwrite=True)
        await self._act([do.ConsiderWarmUp()], Errand(at_once=True))
        return self.status_json()

    async def warm(self, body: Body | None) -> dict[str, Any]:
        """Brings the prefix of a request, or the one used last, back or computes it. Raises SlotError."""
        self._stop_warm_up()
        if body is None:
            last = next(self._store.prefixes(), None)
            body = last.as_request() if last is not None else None
        async with self._changing:
            await self._look()
            if self._slots is not None and body is not None:
                errand = Errand(body)
                errand.name = f"|{errand.key}"
                await self._need_prefix(self._slots, errand)
        return self.status_json()

    def status_json(self) -> dict[str, Any]:
        return self.status.to_json(self._clock())

    def _failed(self, error: Exception) -> None:
        why = str(error) if isinstance(error, SlotError) else f"{type(error).__name__}: {error}"
        self._log_event("warm", {"result": "failed", "why": why[:300]})

    # ---- observations into actions ------------------------------------------------------------------------------

    async def _follow(self, observation: Observation, errand: Errand) -> None:
        await self._act(policy.decide(observation, self._clock()), errand)

    async def _act(self, actions: list[Action], errand: Errand) -> None:
        """Each in its turn; what a look finds is decided before the rest."""
        queue = deque(actions)
        while queue:
            observation = await self._do(queue.popleft(), errand)
            if observation is not None:
                queue.extendleft(reversed(policy.decide(observation, self._clock())))

    async def _do(self, action: Action, errand: Errand) -> Observation | None:
        match action:
            case do.StopWarmUp():
                self._stop_warm_up()
            case do.AwaitWarmUp():
                if self._warm_up is not None:
                    await asyncio.wait({self._warm_up})
            case do.StartWarmUp():
                self._start_warm_up()
            case do.WantLastPrefix():
                self._want(next(iter(self._store.prefixes()), None))
            case do.DropWanted():
                self._want(None)
            case do.ConsiderWarmUp():
                return self._warm_up_due(errand.at_once)
            case do.ShowWarm(tokens):
                self.status = WarmingStatus("warm", tokens, "kept")
            case do.ShowCold():
                self.status = WarmingStatus("cold")
            case do.LookUpConversation(looked):
                return self._conversation(errand, looked)
            case do.CountAsLatest(none):
                self._latest = "" if none else errand.name
            case do.LookAtServer():
                async with self._changing:
                    await self._look()
            case do.AdoptServer():
                await self._adopt(errand)
            case do.ForgetServer():
                self._forget()
            case do.ProvidePrefix():
                async with self._changing:
                    if self._slots is not None and not self._server_has(errand.name):
                        await self._need_prefix(self._slots, errand)
            case _:
                if self._slots is not None:
                    return await self._do_with_slots(action, errand, self._slots)
        return None

    async def _do_with_slots(self, action: do.SlotAction, errand: Errand, slots: ServerSlots) -> Observation | None:
        match action:
            case do.LookUpStates():
                return await self._look_up_states(slots, errand)
            case do.FillSlot(number, state):
                assert errand.appeared is not None
                restored = await self._restore(slots, number, state)
                errand.appeared = replace(errand.appeared, results=(*errand.appeared.results, restored))
                return errand.appeared
            case do.CompareAhead(state):
                self._comparing = asyncio.create_task(asyncio.to_thread(self._store.intact, state))
            case do.LookForBusySlots():
                busy = any(slot.busy for slot in await slots.server.slots())
                return replace(self._warm_up_due(errand.at_once), busy=busy)
            case do.MakeRoom():
                async with self._changing:
                    idle = await slots.idle()
                    await self._follow(seen.RoomNeeded(slots.views(idle), self._latest), errand)
            case do.AwaitIdleSlots(again):
                errand.slots = await slots.idle()
                if not again:
                    views = slots.views(errand.slots)
                    return seen.SlotsIdle(slots.traits, views, len(self._conversations) > 0, self._latest)
            case do.SaveSlot(number, name):
                await slots.save_conversation(number, name)
            case do.CompareStates():
                prompt = await errand.prompt(slots)
                states = await slots.usable_with_tokens()
                return seen.StatesCompared(slots.traits, slots.views(errand.slots), states, prompt, self._latest)
            case do.RestoreState(number, state):
                await self._restore(slots, number, state)
            case do.LookUpPrefix():
                return _looked_up(slots, errand, stored=await slots.stored_prefix(errand.key) is not None)
            case do.FindBoundary():
                await errand.find_boundary(slots)
                return _looked_up(slots, errand, stored=False)
            case do.ComputePrefix():
                await self._compute(slots, errand)
            case do.CountAsHeld():
                self._prefixes.put(errand.key, True)
                self._conversations.put(errand.name, True)
                self._store.touch_prefix(errand.key)
            case do.ListSlots():
                errand.slots = await slots.server.slots()
                return seen.StackStops(slots.traits, slots.views(errand.slots))
            case do.CountAsSaved(number):
                errand.saved += slots.count_as_used(next(slot for slot in errand.slots if slot.number == number))
            case _:
                assert_never(action)
        return None

    # ---- the server -----------------------------------------------------------------------------------------------

    @property
    def _traits(self) -> ServerTraits | None:
        return self._slots.traits if self._slots is not None else None

    async def _look(self) -> None:
        """Which process answers now; a new one gets its states back. Call with `_changing` held."""
        self._looked = self._clock()
        errand = Errand(running=self._server.running())
        answering: str | None = None
        if errand.running is not None and errand.running.states_folder is not None:
            try:
                errand.props = await self._server.props()
                answering = str(errand.props.get("media_marker", ""))
            except SlotError:
                pass
        current = self._slots.marker if self._slots is not None else None
        await self._follow(seen.ServerLookedAt(answering, current), errand)

    async def _adopt(self, errand: Errand) -> None:
        running = errand.running
        assert running is not None
        try:
            slots = await ServerSlots.of(self._server, running, errand.props, self._store, self._log_event)
        except OSError as error:
            self._forget()
            self._log_event("warm", {"result": "off", "why": f"{error.filename}: {error.strerror}"})
            return
        self._forget()
        self._slots = slots
        try:
            await self._arrive(slots, overwrite=False)
        except BaseException:  # or its states would never be restored: the next look adopts it anew
            self._forget()
            raise

    def _forget(self) -> None:
        """The server is gone, and with it all that its slots held."""
        if self._slots is None:
            return
        self._slots = None
        self._conversations.clear()
        self._prefixes.clear()
        self._latest = ""
        self._stop_warm_up()
        self._want(None)
        self.status = WarmingStatus("cold")

    async def _arrive(self, slots: ServerSlots, *, overwrite: bool) -> None:
        await asyncio.to_thread(self._store.sweep)
        appeared = seen.SlotsAppeared(slots.traits, tuple(await slots.server.slots()), overwrite)
        await self._follow(appeared, Errand(appeared=appeared))

    async def _look_up_states(self, slots: ServerSlots, errand: Errand) -> Observation:
        assert errand.appeared is not None
        slots.contents.clear()  # the new server's slots are empty
        self.status = WarmingStatus("restoring")
        errand.appeared = replace(errand.appeared, states=tuple(await slots.usable_at_start()))
        return errand.appeared

    async def _restore(self, slots: ServerSlots, number: int, state: StoredState) -> bool:
        restored = await slots.restore(number, state)
        if restored:
            self.status = self.status.after_restore(state.tokens)
        return restored

    # ---- a prefix ---------------------------------------------------------------------------------------------------

    def _server_has(self, name: str) -> bool:
        return policy.server_has(self._traits, seen=name in self._conversations, latest=self._latest == name)

    def _conversation(self, errand: Errand, looked: bool) -> Observation:
        name = errand.name
        return seen.ConversationLookedUp(
            self._traits,
            seen=name in self._conversations,
            latest=self._latest == name,
            looked=self._clock() if looked else self._looked,
            changing=self._changing.locked(),
        )

    async def _need_prefix(self, slots: ServerSlots, errand: Errand) -> None:
        await self._follow(seen.PrefixNeeded(slots.traits, errand.key in self._prefixes), errand)

    async def _compute(self, slots: ServerSlots, errand: Errand) -> None:
        """The prefix, exactly to its end, and its state to disk. Raises SlotError, OSError."""
        boundary, key = errand.boundary, errand.key
        assert boundary is not None
        remembered = RememberedPrefix(key, prefix.part_of(errand.body), len(boundary))
        await asyncio.to_thread(self._store.remember, remembered)
        before = self.status
        self.status = before.warming(len(boundary), self._clock())
        try:
            done = await slots.server.prefill(boundary, self._progress)
            await slots.save(done.slot, "prefix", key, exactly=boundary)
            source = "computed" if done.computed > MIN_TOKENS else "kept"
            fields = {"result": source, "prefix_tokens": len(boundary), "computed": done.computed}
            self._log_event("warm", fields)
            self.status = WarmingStatus("warm", len(boundary), source)
        finally:
            if self.status.state == "warming":
                self.status = before

    def _progress(self, done: int, total: int, cached: int) -> None:
        self.status.done, self.status.of = done, total

    # ---- the warm-up in the background ---------------------------------------------------------------------------

    def _warm_up_due(self, at_once: bool) -> seen.WarmUpDue:
        return seen.WarmUpDue(
            self._traits,
            wanted=self._wanted is not None,
            in_flight=self._in_flight,
            warming=self._warm_up is not None,
            quiet_since=self._quiet_since,
            up_age_s=self._up_age_s() if self._wanted is not None else None,
            at_once=at_once,
            failed_at=self._failed_at,
        )

    def _up_age_s(self) -> float | None:
        try:
            return time.time() - self._up_note.stat().st_mtime
        except OSError:
            return None

    def _want(self, remembered: RememberedPrefix | None) -> None:
        self._wanted, self._failures, self._failed_at = remembered, 0, None

    def _start_warm_up(self) -> None:
        assert self._wanted is not None
        self._warming_key = self._wanted.key
        self._warm_up = asyncio.get_running_loop().create_task(self._warm(self._wanted))

    def _stop_warm_up(self) -> None:
        if self._warm_up is not None:
            self._warm_up.cancel()
            self._warm_up = None

    async def _warm(self, remembered: RememberedPrefix) -> None:
        errand = Errand(remembered.body, for_request=False)
        errand.key = remembered.key
        outcome: Literal["computed", "stopped", "failed"] = "stopped"
        try:
            async with self._changing:
                if self._slots is not None:
                    await self._act([do.LookUpPrefix()], errand)
                    self._prefixes.put(remembered.key, True)
            outcome = "computed"
        except Exception as error:  # whatever it was: it counts, or the same would be begun again at once
            outcome = "failed"
            self._failures, self._failed_at = self._failures + 1, self._clock()
            self._failed(error)
        finally:
            await self._follow(seen.WarmUpEnded(outcome, self._failures), errand)
            if self._warm_up is asyncio.current_task():
                self._warm_up = None


def _looked_up(slots: ServerSlots, errand: Errand, *, stored: bool) -> Observation:
    boundary = errand.boundary
    tokens = len(boundary) if boundary is not None else None
    deadly = boundary is not None and slots.server.dies_on(boundary)
    if deadly:
        slots.log_event("warm", {"result": "skipped", "prefix_tokens": tokens, "why": "the engine died on it before"})
    return seen.PrefixLookedUp(stored, tokens, slots.running.n_ctx_slot, errand.for_request, deadly)
