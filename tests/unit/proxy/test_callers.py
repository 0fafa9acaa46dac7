"""Whoever reaches an upstream has a key that counts at that moment: any history of keys, clocks, waits and requests."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstack.access.keys import DAY_S
from llmstack.catalog.routes import Target
from llmstack.deploy.client_keys import add, revoke, rotate
from llmstack.errors import StackError
from llmstack.paths import Home
from llmstack.protocol.errors import Cause, Refused
from llmstack.protocol.metering import Tokens
from llmstack.proxy.callers import Caller, Callers, caller_of
from llmstack.proxy.gate import Gate, Policy
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.report import Reporter
from llmstack.proxy.respond import Receive, Scope, Send, refuse, respond_json
from llmstack.proxy.turns import FairTurns

NOON = 20_000 * DAY_S + DAY_S / 2


class Here:
    is_local = True


LOCAL = cast(Target, Here())


def home_in(root: Path) -> Home:
    home = Home(root / "config", root / "state", root / "data", root / "cache").make()
    home.token.write_text("token-of-the-owner\n")
    home.token.chmod(0o600)
    return home


@dataclass
class Held:
    """What the test knows of a key by itself: the oracle. secrets: each with the moment it ceases to count."""

    secrets: dict[str, float] = field(default_factory=dict)
    limit: int | None = None
    expires: float = float("inf")
    revoked: bool = False
    generation: int = 0


class Scene:
    """The gate, the turns and an upstream that answers when it is told to; the clock is the test's."""

    def __init__(self, root: Path) -> None:
        self.home = home_in(root)
        self.now = NOON
        self.log = StringIO()
        self.reporter = Reporter(self.log)
        self.live = LiveConfig(self.home, self.reporter.event).start()
        self.start()
        self.held: dict[str, Held] = {}
        self.used: dict[tuple[str, int], int] = {}
        self.reached: list[str] = []
        self.ends: list[tuple[asyncio.Event, list[int]]] = []
        self.tasks: list[asyncio.Task[int]] = []

    def start(self) -> None:
        """A proxy, new at this home."""
        self.callers = Callers(self.live, self.reporter.event, lambda: self.now)
        self.turns = FairTurns(lambda: 1, self.callers.refusal)
        self.gate = Gate(self.answer, self.live, Policy(5000), self.reporter, callers=self.callers)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = caller_of(scope)
        tokens = [0]
        try:
            async with self.turns.turn(LOCAL, caller):
                self.at_the_upstream(caller, scope["generation"])
                end = asyncio.Event()
                self.ends.append((end, tokens))
                await end.wait()
        except Refused as refused:
            await refuse(scope, send, refused.failure)
            return
        self.callers.charge(caller, Tokens(output=tokens[0]))
        key = (caller.name, int(self.now // DAY_S))
        self.used[key] = self.used.get(key, 0) + tokens[0]
        await respond_json(scope, send, {})

    def at_the_upstream(self, caller: Caller, generation: int) -> None:
        held = self.held[caller.name]
        assert not held.revoked and held.generation == generation, "a revoked key reached an upstream"
        assert self.now < held.expires, "an expired key reached an upstream"
        used = self.used.get((caller.name, int(self.now // DAY_S)), 0)
        assert held.limit is None or used < held.limit, "an exhausted key reached an upstream"
        self.reached.append(caller.name)

    def expected(self, name: str, secret: str) -> bool:
        held = self.held[name]
        used = self.used.get((name, int(self.now // DAY_S)), 0)
        lives = not held.revoked and self.now < held.expires and self.now < held.secrets.get(secret, -1)
        return lives and (held.limit is None or used < held.limit)

    async def ask(self, secret: str, generation: int) -> int:
        sent: list[MutableMapping[str, Any]] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"x-api-key", secret.encode())]
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/messages", "headers": headers}
        await self.gate({**scope, "generation": generation}, cast(Receive, None), send)
        return int(sent[0]["status"])


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


NAMES = st.sampled_from(["kim", "lee"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NAMES, st.sampled_from([None, 10, 100]), st.sampled_from([None, "1h", "2d"])),
        st.tuples(st.just("rotate"), NAMES, st.sampled_from(["0", "10m"]), st.sampled_from([None, "1h"])),
        st.tuples(st.just("revoke"), NAMES, st.none(), st.none()),
        st.tuples(st.just("ask"), NAMES, st.integers(0, 9), st.none()),
        st.tuples(st.just("ask"), NAMES, st.integers(0, 9), st.none()),
        st.tuples(st.just("end"), NAMES, st.sampled_from([0, 4, 60]), st.none()),
        st.tuples(st.just("wait"), NAMES, st.sampled_from([1.0, 601.0, 7200.0, float(DAY_S)]), st.none()),
        st.tuples(st.just("restart"), NAMES, st.none(), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_no_revoked_expired_or_exhausted_key_ever_reaches_an_upstream(steps: list[tuple[str, str, Any, Any]]) -> None:
    async def play(root: Path) -> None:
        scene = Scene(root)
        for step in steps:
            await _play_one(scene, *step)
        for _ in range(len(scene.tasks) + 1):
            _end_all(scene)
            await settle()
        for task in scene.tasks:
            assert await asyncio.wait_for(task, 5) in (200, 401, 429), "a request was lost"

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder)))


async def _play_one(scene: Scene, what: str, name: str, value: Any, more: Any) -> None:
    held = scene.held.setdefault(name, Held(revoked=True))
    ends = {None: float("inf"), "1h": scene.now + 3600, "2d": scene.now + 2 * DAY_S}[more]
    try:
        if what == "add":
            made = add(scene.home, name, scene.now, tokens_per_day=value, expires=more)
            assert held.revoked
            scene.held[name] = Held({made.secret: float("inf")}, value, ends, False, held.generation + 1)
        elif what == "rotate":
            made = rotate(scene.home, name, scene.now, grace=value, expires=more)
            until = scene.now + (600 if value == "10m" else 0)
            held.secrets = {one: min(end, until) for one, end in held.secrets.items()} | {made.secret: float("inf")}
            held.expires = ends if more else held.expires
        elif what == "revoke":
            revoke(scene.home, name, scene.now)
            held.revoked = True
    except StackError:
        assert what != "add" or not held.revoked
    if what == "ask" and held.secrets:
        secret = list(held.secrets)[int(value) % len(held.secrets)]
        waits = bool(scene.ends)
        passes, before = scene.expected(name, secret), len(scene.reached)
        task = asyncio.create_task(scene.ask(secret, held.generation))
        scene.tasks.append(task)
        await settle()
        if not passes:
            assert task.done() and task.result() in (401, 429)
        elif not waits:
            assert len(scene.reached) > before, "a key that counts was kept from an upstream that was free"
    elif what == "end":
        _end_all(scene, tokens=int(value))
        await settle()
    elif what == "wait":
        scene.now += float(value)
    elif what == "restart" and not scene.ends:
        if (use := scene.callers.changed_use()) is not None:
            scene.callers.write(use)
        scene.start()


def _end_all(scene: Scene, tokens: int = 1) -> None:
    for end, used in scene.ends:
        used[0] = tokens
        end.set()
    scene.ends.clear()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_the_owner_s_token_is_taken_whatever_keys_there_are(scene: Scene) -> None:
    add(scene.home, "kim", NOON)
    scene.held["owner"] = Held()
    task = asyncio.create_task(scene.ask("token-of-the-owner", 0))
    await settle()
    _end_all(scene)
    assert await task == 200 and scene.callers.changed_use() is not None


@pytest.mark.parametrize(
    ("make", "words", "status"),
    [
        (lambda s: revoke(s.home, "kim", NOON), "was revoked", 401),
        (lambda s: setattr(s, "now", NOON + 7200), "expired at 55", 401),
        (lambda s: rotate(s.home, "kim", NOON, grace="0"), "was replaced", 401),
        (lambda s: s.callers.charge(_caller(s), Tokens(output=10)), "used its tokens of today (10 of 10)", 429),
    ],
    ids=["revoked", "expired", "rotated", "exhausted"],
)
def test_a_key_that_does_not_count_is_told_why(scene: Scene, make: Any, words: str, status: int) -> None:
    made = add(scene.home, "kim", NOON, tokens_per_day=10, expires="1h")
    scene.live.refresh()
    make(scene)
    scene.live.refresh()
    caller, failure = scene.callers.admit([made.secret.encode()])
    assert caller is not None and caller.name == "kim", "logged and counted by name all the same"
    assert failure is not None and failure.http_status == status and failure.cause is Cause.KEY
    assert words.replace("55", "20") in failure.message, failure.message
    assert (failure.retry_after_s == DAY_S / 2) is (status == 429)


def _caller(scene: Scene) -> Caller:
    key = scene.live.keys.named("kim")
    assert key is not None
    return Caller("kim", key.id)


def test_a_file_that_was_damaged_lets_nobody_new_in_and_keeps_who_was_in(scene: Scene) -> None:
    made = add(scene.home, "kim", NOON)
    scene.live.refresh()
    scene.home.client_keys.write_bytes(b"{ half")
    scene.live.refresh()
    assert scene.callers.admit([made.secret.encode()]).failure is None
    assert "kept the old ones" in scene.log.getvalue()
    scene.home.client_keys.unlink()
    scene.live.refresh()
    assert scene.callers.admit([made.secret.encode()]).failure is not None


def test_a_key_may_not_do_what_is_the_owner_s(scene: Scene) -> None:
    made = add(scene.home, "kim", NOON)
    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer " + made.secret.encode())]
    for path in ("/llmstack/warm/save", "/metrics"):
        asked = {"method": "POST", "path": path, "headers": headers, "http_version": "1.1"}
        gate = Gate(scene.answer, scene.live, Policy(5000, loopback=False), scene.reporter, callers=scene.callers)
        failure = gate.admit(asked, path)
        assert failure is not None and failure.http_status == 403, path
