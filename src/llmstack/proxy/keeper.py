"""Keeps what the server has computed: states saved and restored, so that a prefix is computed once and never again.

| event                                        | what happens                                                        |
| -------------------------------------------- | ------------------------------------------------------------------- |
| a server appears whose slots are empty       | the last conversation's state is restored, else the last prefix's   |
| ... and there is no state it may restore     | the last known prefix is computed in the background, then saved     |
| a request with a prefix new to this server   | its saved state is restored, or the prefix is computed up to exactly |
|                                              | its end and saved, before the request itself is sent                |
| a request while its prefix is being computed | waits for it                                                        |
| another request meanwhile                    | the computing stops, and goes on when nobody asks anything          |
| the stack stops                              | what the slots hold is saved as conversations                       |

Nothing here makes a request fail: what cannot be kept or restored is computed by the server, as without a keeper.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from llmstack.catalog.routes import Target, resolve
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.slots import SlotCalls, SlotError
from llmstack.proxy.states import States
from llmstack.proxy.upstreams import Upstreams
from llmstack.snapshots import Entry, Served, Store, seal, served
from llmstack.snapshots.store import Prefix
from llmstack.warm import prefix
from llmstack.warm.prefix import MIN_BYTES, MIN_TOKENS, Body

LOOK_S = 1.0
FRESH_S = 0.2  # a look at the server is good for so long: no server that died is back sooner
IDLE_S = 1.0  # silence after which an interrupted warm-up goes on
DEPLOYING_S = 900.0  # an older transaction of `up` was cut off
_MOST_KNOWN = 512


@dataclass(slots=True)
class Warmth:
    """For `status` and /health. state: off, cold, restoring, warming, warm. source: restored, computed or kept."""

    state: str = "off"
    prefix_tokens: int = 0
    source: str = ""
    done: int = 0
    of: int = 0
    began: float = 0.0

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"state": self.state, "prefix_tokens": self.prefix_tokens, "source": self.source or None}
        if self.state == "warming" and self.of:
            spent = time.monotonic() - self.began
            told |= {"done": self.done, "of": self.of}
            if self.done:
                told["left_s"] = round(spent / self.done * (self.of - self.done), 1)
        return told


class Keeper:
    def __init__(self, live: LiveConfig, upstreams: Upstreams, say: Callable[[str, dict[str, Any]], None]) -> None:
        self._live = live
        self._upstreams = upstreams
        self._say = say
        self.store = Store(live.home.slots, say=say)
        self.warmth = Warmth()
        self._states: States | None = None
        self._looked = 0.0
        self._lock = asyncio.Lock()  # held while slots are looked at and changed
        self._flying = 0
        self._quiet_since = time.monotonic()
        self._conversations: OrderedDict[str, None] = OrderedDict()
        self._prefixes: OrderedDict[str, None] = OrderedDict()
        self._last = ""
        self._warming: asyncio.Task[None] | None = None
        self._warming_key = ""
        self._wanted: Prefix | None = None
        self._comparing: asyncio.Task[bool] | None = None

    # ---- the watch ------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Runs beside the requests until it is cancelled."""
        while True:
            try:
                if self._flying == 0:
                    async with self._lock:
                        await self._look()
                    await self._resume()
            except Exception as error:  # the watch must outlive whatever a server or a disk does
                self._failed(error)
            await asyncio.sleep(LOOK_S)

    def _failed(self, error: Exception) -> None:
        why = str(error) if isinstance(error, SlotError) else f"{type(error).__name__}: {error}"
        self._say("warm", {"result": "failed", "why": why[:300]})

    async def _look(self) -> None:
        """Which server answers now; a new one gets its state back."""
        self._looked = time.monotonic()
        found = served(self._live.home.stack)
        settings = self._live.routing.upstreams.get("local")
        if found is None or settings is None or settings.base_url is not None:
            self._leave()
            return
        calls = SlotCalls(self._upstreams, resolve("local", settings, None))
        try:
            props = await calls.props()
        except SlotError:
            self._leave()
            return
        marker = str(props.get("media_marker", ""))  # random for each start of a server
        if self._states is not None and self._states.marker == marker:
            return
        template = str(props.get("chat_template", ""))
        try:
            sealed = await asyncio.to_thread(seal, found.argv, template)
        except OSError as error:
            self._leave()
            self._say("warm", {"result": "off", "why": f"{error.filename}: {error.strerror}"})
            return
        self._leave()
        running = self._live.server
        places = asyncio.Semaphore(running.n_parallel if running is not None else 1)
        self._states = States(marker, found, template, sealed, calls, self.store, self._say, places)
        await self._arrived(self._states, overwrite=False)

    def _leave(self) -> None:
        """The server is gone, and with it all that its slots held."""
        if self._states is None:
            return
        self._states = None
        self._conversations.clear()
        self._prefixes.clear()
        self._last = ""
        self._stop_warming()
        self._wanted = None
        self.warmth = Warmth("cold")

    async def _arrived(self, states: States, *, overwrite: bool) -> None:
        """Empty slots get what was last in use. overwrite: what they hold now is of no worth."""
        await asyncio.to_thread(self.store.sweep)
        slots = await states.calls.slots()
        most = max((slot.tokens for slot in slots), default=0)
        if most and not overwrite:
            self.warmth = Warmth("warm", most, "kept") if most >= MIN_TOKENS else Warmth("cold")
            return
        states.held.clear()
        self.warmth = Warmth("restoring")
        usable = await states.usable()
        everything = await asyncio.to_thread(self.store.entries)
        ignored = sum(entry.folder == str(states.served.folder) for entry in everything) - len(usable)
        if ignored:
            self._say("warm", {"result": "ignored", "snapshots": ignored, "why": "of another model, build or template"})
        waiting = _order(usable, states.served)
        for slot in slots:
            while waiting:
                entry = waiting.pop(0)
                if await states.restore(slot.number, entry):
                    self._restored(entry)
                    break
        ahead = next((entry for entry in waiting if entry.kind == "prefix"), None)
        if ahead is not None:  # the next conversation wants it: its bytes are compared before somebody waits for that
            self._comparing = asyncio.create_task(asyncio.to_thread(self.store.intact, ahead))
        if self.warmth.state == "restoring":
            self.warmth = Warmth("cold")
            self._wanted = next(iter(self.store.prefixes()), None)

    def _restored(self, entry: Entry) -> None:
        if entry.tokens > self.warmth.prefix_tokens or self.warmth.source != "restored":
            self.warmth = Warmth("warm", entry.tokens, "restored")

    # ---- a request --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(self, target: Target, body: Body, conversation: str) -> AsyncIterator[None]:
        """Around one request to an upstream: before it is sent, what it needs is brought back or computed."""
        if not target.is_local:
            yield
            return
        self._flying += 1
        try:
            async with self._places():
                try:
                    await self._before(body, conversation)
                except Exception as error:  # a fault here must not become a fault of the request
                    self._failed(error)
                yield
        finally:
            self._flying -= 1
            self._quiet_since = time.monotonic()

    def _places(self) -> AbstractAsyncContextManager[Any]:
        """Without a cache of the server's own, a request that waits for a slot waits here: what is brought back for
        it would be gone before it is sent, because another one takes the slot first."""
        if self._states is None or self._states.served.cache_ram_mib != 0:
            return nullcontext()
        return self._states.places

    async def _before(self, body: Body, conversation: str) -> None:
        if prefix.size_of(body) < MIN_BYTES:
            self._stop_warming()
            await self._make_room()
            return
        key = prefix.key_of(body)
        if self._warming is not None and self._warming_key == key:
            await asyncio.wait({self._warming})
        else:
            self._stop_warming()
        name = f"{conversation or prefix.opening_of(body)}|{key}"
        if time.monotonic() - self._looked > FRESH_S and not (self._known(name) and self._lock.locked()):
            async with self._lock:
                await self._look()
        if not self._known(name):
            async with self._lock:
                if self._states is not None and not self._known(name):
                    await self._provide(self._states, body, key, name)
        self._last = name

    def _known(self, name: str) -> bool:
        """Whether the server itself still has this conversation, in a slot or in its own cache."""
        if self._states is None:
            return True
        return name in self._conversations and (self._states.served.cache_ram_mib != 0 or self._last == name)

    async def _make_room(self) -> None:
        """A side call may take any slot. A server without a cache of its own keeps nothing of what was there."""
        states = self._states
        if states is None or states.served.cache_ram_mib != 0 or states.served.window:
            return
        async with self._lock:
            await states.learn(await states.idle(), self._last)
        self._last = ""

    async def _provide(self, states: States, body: Body, key: str, name: str) -> None:
        """What the server itself still knows is left to it."""
        has_cache = states.served.cache_ram_mib != 0
        if not states.served.window and not (key in self._prefixes and has_cache):
            slots = await states.idle()
            if not (has_cache and self._conversations):
                await states.learn(slots, self._last)
            prompt = await self._prompt(states, body, key)
            for again in (True, False):
                entry = await states.bring_back(slots, prompt, self._last)
                if entry is not None:
                    self._restored(entry)
                if not again or not await self._compute(states, body, key):
                    break
                slots = await states.idle()
        _keep(self._prefixes, key)
        _keep(self._conversations, name)
        self.store.touch_prefix(key)

    async def _prompt(self, states: States, body: Body, key: str) -> array[int]:
        """In tokens. What begins can share its prefix with a saved state and little else: those tokens are known."""
        entry = await states.prefix_of(key) if prefix.begins(body) else None
        known = self.store.tokens(entry) if entry is not None else None
        if known is not None:
            return known + array("I", [0])  # whatever comes next is computed
        return await states.calls.tokens({k: body[k] for k in ("messages", *prefix.SETTINGS) if k in body})

    async def _compute(self, states: States, body: Body, key: str) -> bool:
        """The prefix, exactly to its end, and its state to disk. False when it is on disk, or not worth a file."""
        if await states.prefix_of(key) is not None:
            return False
        rendered = [await states.calls.tokens(probe) for probe in prefix.probes(body)]
        boundary = rendered[0][: prefix.common(rendered)]
        limit = self._live.server.n_ctx_slot if self._live.server else 0
        if not MIN_TOKENS <= len(boundary) < limit:
            return False
        await asyncio.to_thread(self.store.remember, Prefix(key, prefix.part_of(body), len(boundary)))
        before = self.warmth
        self.warmth = Warmth("warming", before.prefix_tokens, before.source, 0, len(boundary), time.monotonic())
        try:
            await self._prefill(states, boundary, key)
        finally:
            if self.warmth.state == "warming":
                self.warmth = before
        return True

    async def _prefill(self, states: States, boundary: array[int], key: str) -> None:
        done = await states.calls.prefill(boundary, self._progress)
        entry = await states.save(done.slot, "prefix", key, exactly=boundary)
        source = "computed" if done.computed > MIN_TOKENS else "kept"
        self._say("warm", {"result": source, "prefix_tokens": len(boundary), "computed": done.computed})
        self.warmth = Warmth("warm", len(boundary), source)
        if entry is not None:
            await states.holds(done.slot, entry, boundary)

    def _progress(self, done: int, total: int, cached: int) -> None:
        self.warmth.done, self.warmth.of = done, total

    # ---- around a stop and a start --------------------------------------------------------------------------------

    async def save_all(self) -> int:
        """Saves what the slots hold as conversations; returns how many are on disk now. Raises SlotError."""
        self._stop_warming()
        async with self._lock:
            if self._states is None or self._states.served.window:
                return 0
            return await self._states.save_all()

    async def restore_again(self) -> dict[str, Any]:
        """After a health check has used the slots of a fresh server. Raises SlotError."""
        self._stop_warming()
        async with self._lock:
            await self._look()
            if self._states is not None:
                await self._arrived(self._states, overwrite=True)
        await self._resume(at_once=True)
        return self.warmth.to_json()

    async def warm(self, body: Body | None) -> dict[str, Any]:
        """Brings the prefix of a request, or the one used last, back or computes it. Raises SlotError."""
        self._stop_warming()
        if body is None:
            last = next(self.store.prefixes(), None)
            body = (
                {**last.body, "messages": [*last.body["messages"], {"role": "user", "content": ""}]} if last else None
            )
        async with self._lock:
            await self._look()
            if self._states is not None and body is not None:
                key = prefix.key_of(body)
                await self._provide(self._states, body, key, f"|{key}")
        return self.warmth.to_json()

    # ---- the warm-up in the background -----------------------------------------------------------------------------

    async def _resume(self, *, at_once: bool = False) -> None:
        """Computes the wanted prefix when nobody asks anything, and no `up` is measuring."""
        states = self._states
        if self._wanted is None or states is None or states.served.window or self._flying or self._warming is not None:
            return
        if not at_once:
            quiet = time.monotonic() - self._quiet_since >= IDLE_S and not self._deploying()
            if not quiet or any(slot.busy for slot in await states.calls.slots()):
                return
        self._warming_key = self._wanted.key
        self._warming = asyncio.get_running_loop().create_task(self._warm(self._wanted))

    def _deploying(self) -> bool:
        try:
            began = (self._live.home.state / "transaction.json").stat().st_mtime
        except OSError:
            return False
        return time.time() - began < DEPLOYING_S

    def _stop_warming(self) -> None:
        if self._warming is not None:
            self._warming.cancel()
            self._warming = None

    async def _warm(self, wanted: Prefix) -> None:
        try:
            async with self._lock:
                if self._states is not None:
                    await self._compute(self._states, wanted.body, wanted.key)
                    _keep(self._prefixes, wanted.key)
            self._wanted = None
        except (SlotError, OSError) as error:
            self._wanted = None
            self._failed(error)
        finally:
            if self._warming is asyncio.current_task():
                self._warming = None


def _order(usable: list[Entry], served: Served) -> list[Entry]:
    """In which order slots are filled: the last conversation, the last prefix, then by age."""
    if served.window:
        return []  # the server finds that a restored window holds too little of what came before it
    leading = [next((e for e in usable if e.kind == kind), None) for kind in ("conversation", "prefix")]
    first = [entry for entry in leading if entry is not None]
    return [*first, *(entry for entry in usable if entry not in first)]


def _keep(known: OrderedDict[str, None], name: str) -> None:
    known[name] = None
    known.move_to_end(name)
    if len(known) > _MOST_KNOWN:
        known.popitem(last=False)
