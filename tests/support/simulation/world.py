"""One seed: who asks, who answers, what goes wrong; and what must hold after every step, and when all is over."""

from __future__ import annotations

import asyncio
import copy
import gc
import hashlib
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from llmstack.paths import Home
from llmstack.proxy import engine_care
from llmstack.proxy.app import Proxy
from llmstack.proxy.client_writer import Patience
from llmstack.proxy.gate import ArrivingBodies, Policy
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.report import Reporter
from llmstack.stackfile import RunningServer
from llmstack.warmstart.prefix import common
from support.simulation.clients import Client, Habits, habits
from support.simulation.clock import START, Stuck, VirtualLoop, WallClock, clocks_of
from support.simulation.engine import PID, Engine, render
from support.simulation.members import BAD, GOOD, Elsewhere
from support.simulation.network import Asked, Member, Network

TOKEN = "token-of-the-simulation"
LOCAL, OTHER, CLOUD = 7001, 7002, 7003
DRAIN_S = 90.0  # after which nothing may be left
WARM_TICKS_S = 12.0
CATALOG = f"""
[upstreams.local]
timeout_s = 15.0
connect_timeout_s = 4.0
keepalive_s = 2.0
[upstreams.b]
kind = "openai"
base_url = "http://127.0.0.1:{OTHER}/v1"
timeout_s = 12.0
connect_timeout_s = 3.0
keepalive_s = 2.0
[upstreams.c]
kind = "anthropic"
base_url = "http://127.0.0.1:{CLOUD}"
timeout_s = 12.0
connect_timeout_s = 3.0
[[routes]]
match = "chain"
upstream = "local"
fallback = ["b", "c"]
[[routes]]
match = "pair"
upstream = "b"
fallback = ["local"]
[[routes]]
match = "cloud"
upstream = "c"
fallback = ["b"]
"""
MODELS = ("chain", "chain", "local", "pair", "cloud")


class Grounds:
    """What all seeds of a process share: a home with its routes, read once. Close it."""

    def __init__(self) -> None:
        shm = Path("/dev/shm")
        self.root = Path(tempfile.mkdtemp(prefix="llmstack-sim-", dir=shm if os.access(shm, os.W_OK) else None))
        self.home = Home(*(self.root / name for name in ("config", "state", "data", "cache"))).make()
        self.home.token.write_text(TOKEN)
        self.home.token.chmod(0o600)
        self.home.catalog.write_text(CATALOG)
        self.live = LiveConfig(self.home, lambda *_: None).start()
        self.count = 0

    def fresh(self) -> LiveConfig:
        """The same configuration over a cache folder of its own."""
        self.count += 1
        live = copy.copy(self.live)
        live._seen = dict(self.live._seen)
        live.home = Home(self.home.config, self.home.state, self.home.data, self.root / f"cache-{self.count}")
        return live

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


@contextmanager
def grounds() -> Iterator[Grounds]:
    made = Grounds()
    try:
        yield made
    finally:
        made.close()


@dataclass
class Outcome:
    """broken: the rules that were not kept. trace: a digest of all that clients saw, and when."""

    seed: int
    broken: list[str]
    trace: str
    steps: int
    virtual_s: float
    requests: int
    story: list[str] = field(default_factory=list)


class _Lines:
    """The proxy's log: a fault of its own is a broken rule."""

    def __init__(self, faults: list[str]) -> None:
        self._faults = faults

    def write(self, text: str, /) -> int:
        if text.startswith('{"event":"fault"'):
            self._faults.append(text.strip())
        return len(text)

    def flush(self) -> None:
        pass


class World:
    def __init__(self, ground: Grounds, seed: int, *, clock_steps: bool = True) -> None:
        self.seed = seed
        dice = self.dice = random.Random(seed)
        self.loop = VirtualLoop(dice)
        self.wall = WallClock(self.loop, random.Random(seed + 1), steps=clock_steps)
        self.broken: list[str] = []
        self.story: list[str] = []
        self.network = Network(self.loop, dice)
        self.loop.connect = self.network.connect
        self.warm = dice.random() < 0.2  # the warm start and its slots take part
        self.cared = dice.random() < 0.2
        self.moods = {name: dice.choice((GOOD, BAD, BAD)) for name in ("local", "b", "c")}
        self.live = ground.fresh()
        self.states = self.live.home.slots / "flags"
        self.slots = dice.choice((1, 1, 2))
        self.engine: Engine | None = None
        self.clients: list[Client] = []
        self.upstream: Counter[str] = Counter()  # questions: how often each was asked of an upstream
        self._claims: Any = None

    def note(self, line: str) -> None:
        self.story.append(f"{self.loop.now - START:9.4f} {line}")

    # ---- one seed -----------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        asyncio.set_event_loop(self.loop)
        kills = patch.object(os, "kill", self._kill)
        looks = patch.object(engine_care, "cpu_s", lambda pid: 0.0)
        try:
            with clocks_of(self.loop, self.wall, self.dice), kills, looks:
                self.loop.run_until_complete(self._play())
        except Stuck as stuck:
            self.broken.append(str(stuck))
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()
            shutil.rmtree(self.live.home.cache, ignore_errors=True)
        self.broken += self.loop.unread
        trace = hashlib.sha256("\n".join(self.story).encode()).hexdigest()[:16]
        spent = self.loop.now - START
        return Outcome(self.seed, self.broken, trace, self.loop.steps, spent, len(self.clients), self.story)

    async def _play(self) -> None:
        self._deploy()
        proxy = self._proxy()
        self.proxy = proxy
        self.loop.after_step = self._check
        watches = [proxy.warm_starts.watch(), proxy.tool_calls.watch()] if self.warm else []
        watches += [proxy.engine_care.watch()] if self.cared else []
        beside = [self.loop.create_task(watch) for watch in watches]
        asked = [self.loop.create_task(self._client(one)) for one in self._habits()]
        mischief = self.loop.create_task(self._mischief())
        await asyncio.wait(asked)
        mischief.cancel()
        if self.warm:
            await asyncio.sleep(WARM_TICKS_S)
        if self.engine is not None and self.engine.hung and not self.cared:
            self.engine.die()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, mischief, return_exceptions=True)
        proxy.warm_starts.local._stop_warm_up()
        await asyncio.sleep(DRAIN_S)
        self._check()
        self._leaks()
        await proxy.upstreams.close()
        self.loop.after_step = lambda: None

    def _deploy(self) -> None:
        dice, states = self.dice, self.states
        states.mkdir(parents=True, mode=0o700)
        facts: dict[str, Any] = {
            "model": "tiny", "model_path": "/m.gguf", "host": "127.0.0.1", "port": LOCAL, "argv": ("engine",),
            "n_ctx": 65536, "n_ctx_slot": 32768, "n_parallel": self.slots, "n_predict": 4096, "vision": False,
            "recurrent": dice.random() < 0.3, "sliding_window": False, "cache_ram_mib": dice.choice((0, 8192)),
            "states_folder": states if self.warm else None,
        }  # fmt: skip
        self.live.server = RunningServer(**facts)
        self.engine = Engine(self.network, dice, LOCAL, self.slots, self.moods["local"], states, self._heard)
        for port, name, anthropic in ((OTHER, "b", False), (CLOUD, "c", True)):
            elsewhere = Elsewhere(dice, self.moods[name], anthropic=anthropic, heard=self._heard)
            self.network.members[port] = Member(port, elsewhere.answer)

    def _proxy(self) -> Proxy:
        policy = Policy(port=5000, body_timeout_s=5.0, arriving=ArrivingBodies(1 << 28))
        reporter = Reporter(_Lines(self.broken))
        self.live.log_event = reporter.event
        supervisor: Callable[[], Any] | None = (lambda: self.engine) if self.dice.random() < 0.7 or self.cared else None
        proxy = Proxy(self.live, policy, reporter, None, supervisor)
        proxy.conversations.patience = Patience(slow_reader_s=8.0, whole_keepalive_s=6.0)
        proxy.relay.slow_reader_s = 8.0
        for timed in (proxy.upstreams.deaths, proxy.engine_care, proxy.warm_starts.local):
            timed._clock = self.loop.time  # its default was taken before this world began
        proxy.warm_starts.local._quiet_since = self.loop.now
        return proxy

    def _habits(self) -> list[Habits]:
        everyone: list[Habits] = []
        for number in range(self.dice.randrange(2, 9 if self.warm else 7)):
            model = self.dice.choice(MODELS)
            everyone.append(habits(self.dice, number, model, long=self.warm, before=everyone))
        return everyone

    async def _client(self, habit: Habits) -> None:
        await asyncio.sleep(habit.after_s)
        client = Client(habit, TOKEN, self.note, self.dice)
        self.clients.append(client)
        self.note(f"client {habit.number} asks {habit.path} ({habit.question})")
        leaving = self.loop.call_later(habit.leaves_s, client.leave) if habit.leaves_s is not None else None
        if habit.half:
            self.loop.call_later(habit.leaves_s or 20.0, client.leave)
        try:
            async with asyncio.timeout(600):
                await self.proxy.asgi(client.scope(), client.receive, client.send)
        except TimeoutError:
            self.broken.append(f"client {habit.number} was kept for ten minutes")
        finally:
            if leaving is not None:
                leaving.cancel()
        self.broken += client.judge()
        client.leave()

    async def _mischief(self) -> None:
        """What happens to the members while they work."""
        dice = self.dice
        for _ in range(dice.randrange(3)):
            await asyncio.sleep(dice.random() * 8)
            member = self.network.members[dice.choice((OTHER, CLOUD))]
            what = dice.choice(("down", "silent", "engine dies", "engine hangs", "wires"))
            self.note(what)
            assert self.engine is not None
            if what == "engine dies":
                self.engine.die()
            elif what == "engine hangs":
                self.engine.hang()
            elif what == "wires":
                self.network.cut_all(member)
            else:
                member.takes, member.silent = what != "down", what == "silent"
                self.loop.call_later(dice.random() * 20, self._well_again, member)

    @staticmethod
    def _well_again(member: Member) -> None:
        member.takes, member.silent = True, False

    def _kill(self, pid: int, number: int) -> None:
        assert pid >= PID and self.engine is not None, "no process of this machine is in the play"
        if pid == self.engine.pid:
            self.engine.die()

    # ---- what must hold -----------------------------------------------------------------------------------------

    def _heard(self, member: str, asked: Asked) -> None:
        """An upstream is asked for an answer: never again once the client has had a byte of one."""
        text = asked.body.decode()
        for client in self.clients:
            question = client.habits.question
            if question not in text:
                continue
            twins = sum(other.habits.question == question for other in self.clients)
            self.note(f"{member} is asked ({question})")
            if twins == 1 and client.substance:
                self.broken.append(f"{question} is asked of {member} after a byte was sent")
            return

    def _check(self) -> None:
        proxy = self.proxy
        for client in self.clients:
            if client.broken:
                self.broken += client.broken
                client.broken = []
        turns = proxy.upstreams.deaths._turns
        if turns._running < 0 or turns._want_alone < 0 or proxy.conversations.policy.arriving.size < 0:
            self.broken.append("a counter below zero")
        for answer in proxy.in_flight.active:
            if answer.finished:
                self.broken.append("an answer that has ended is in flight")
        if self.warm:
            self._check_claims()

    def _check_claims(self) -> None:
        """What the warm start says that a slot holds is in it, and a prefix's state holds that prefix to its end."""
        slots = self.proxy.warm_starts.local._slots
        if slots is None or self.engine is None or slots.marker != f"process {self.engine.starts}":
            return
        now = (self.engine.version, tuple((number, id(held)) for number, held in slots.contents.items()))
        if now == self._claims or self.engine.down_until is not None:
            return
        self._claims = now
        for number, held in slots.contents.items():
            slot = self.engine.slots[number]
            if held.task == slot.task and not slot.busy and held.tokens != slot.tokens[: len(held.tokens)]:
                self.broken.append(f"slot {number} is said to hold what is not in it")

    def _leaks(self) -> None:
        proxy, broken = self.proxy, self.broken
        deaths, warm = proxy.upstreams.deaths, proxy.warm_starts.local
        counts = {
            "answers in flight": len(proxy.in_flight.active) + len(proxy.in_flight._by_key),
            "requests counted as running": deaths._turns._running + len(deaths._in_flight),
            "requests that want to be alone": deaths._turns._want_alone + len(deaths._turns._waiting),
            "bytes of arriving bodies": proxy.conversations.policy.arriving.size,
            "connections": len(self.network.wires),
            "requests of the warm start": warm._in_flight,
            "locks of the warm start": int(warm._changing.locked()),
            "requests in the gauge": int(proxy.reporter.active._value.get()),
        }
        broken += [f"left behind: {count} {what}" for what, count in counts.items() if count]
        if warm._slots is not None and warm._slots.turns._value != self.slots:
            broken.append(f"left behind: {self.slots - warm._slots.turns._value} turns at a slot")
        tasks = [task for task in asyncio.all_tasks(self.loop) if task is not asyncio.current_task()]
        broken += [f"left behind: a task, {task.get_coro()!r:.200}" for task in tasks]
        self._states()

    def _states(self) -> None:
        """Each prefix's state on disk holds that prefix, exactly."""
        store = self.proxy.warm_starts.local._store
        remembered = {known.key: known for known in store.prefixes()}
        for state in store.states():
            known, tokens = remembered.get(state.key), store.tokens(state)
            if state.kind != "prefix" or known is None or tokens is None:
                continue
            body = known.body
            probes = [render({**body, "messages": [*body["messages"], {"role": "user", "content": w}]}) for w in "ab"]
            if tokens != probes[0][: common(probes)]:
                self.broken.append("a state is kept for a prefix that is not in it")


def play(ground: Grounds, seed: int, *, clock_steps: bool = True) -> Outcome:
    """Seeds are played with the collector of cycles off: what it would close at a moment of its own is told apart."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return World(ground, seed, clock_steps=clock_steps).run()
    finally:
        if enabled:
            gc.enable()
