"""Turns at the local server: however requests come, leave and end, nobody waits for two turns of another."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstack.catalog.routes import Target
from llmstack.protocol.errors import Failure, FailureKind, Refused
from llmstack.proxy.callers import THE_OWNER, Caller
from llmstack.proxy.turns import FairTurns


class Here:
    is_local = True


LOCAL = cast(Target, Here())


class Scene:
    """Requests by key, and the order in which they were served."""

    def __init__(self, room: int | None) -> None:
        self.room = room
        self.turns = FairTurns(lambda: self.room)
        self.served: list[tuple[str, int]] = []
        self.ends: dict[int, asyncio.Event] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.came: dict[int, int] = {}  # by request: how many had been served when it came
        self._number = 0

    async def come(self, key: str) -> int:
        number = self._number = self._number + 1
        self.ends[number] = asyncio.Event()
        self.came[number] = len(self.served)
        self.tasks[number] = asyncio.create_task(self._one(key, number))
        await settle()
        return number

    async def _one(self, key: str, number: int) -> None:
        async with self.turns.turn(LOCAL, Caller(key, "id")):
            self.served.append((key, number))
            await self.ends[number].wait()

    @property
    def running(self) -> list[int]:
        return [number for _, number in self.served if not self.tasks[number].done()]

    async def end(self, number: int) -> None:
        self.ends[number].set()
        await settle()

    async def leave(self, number: int) -> None:
        self.tasks[number].cancel()
        await settle()

    async def all_end(self) -> None:
        for number in list(self.tasks):
            self.ends[number].set()
        if self.tasks:
            await asyncio.wait(self.tasks.values(), timeout=5)


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_behind_one_user_s_24_requests_another_waits_for_the_running_one_alone() -> None:
    scene = Scene(1)
    for _ in range(24):
        await scene.come("many")
    await scene.come("other")
    await scene.end(scene.running[0])
    assert [key for key, _ in scene.served] == ["many", "other"]
    await scene.all_end()
    assert len(scene.served) == 25


async def test_turns_go_round_and_among_one_user_s_own_the_first_is_first() -> None:
    scene = Scene(1)
    for key in ("a", "a", "a", "b", "b", "c"):
        await scene.come(key)
    await scene.all_end()
    assert [number for _, number in scene.served] == [1, 4, 6, 2, 5, 3]


async def test_as_many_run_as_there_is_room_for_and_without_a_limit_all_do() -> None:
    scene = Scene(3)
    for _ in range(5):
        await scene.come("a")
    assert len(scene.running) == 3 and scene.turns.waiting == 2
    scene.room = None
    await scene.end(1)
    assert len(scene.running) == 4 and scene.turns.waiting == 0
    await scene.all_end()


async def test_a_key_that_ended_while_it_waited_is_refused_at_its_turn_and_the_next_one_goes_on() -> None:
    gone = Failure(FailureKind.AUTHENTICATION, "revoked")
    turns = FairTurns(lambda: 1, lambda caller: gone if caller.name == "gone" else None)
    order: list[str] = []

    async def one(name: str) -> None:
        async with turns.turn(LOCAL, Caller(name, "id")):
            order.append(name)

    async with turns.turn(LOCAL, THE_OWNER):
        waiting = [asyncio.create_task(one(name)) for name in ("gone", "kim")]
        await settle()
    with pytest.raises(Refused):
        await waiting[0]
    await waiting[1]
    assert order == ["kim"]


async def test_one_that_leaves_in_the_very_moment_of_a_turn_s_end_costs_nobody_a_turn() -> None:
    scene = Scene(1)
    for key in ("a", "b", "c"):
        await scene.come(key)
    scene.ends[1].set()
    scene.tasks[2].cancel()  # the turn's end comes first, and finds somebody who is about to leave
    await settle()
    assert [number for _, number in scene.served] == [1, 3]
    scene.ends[3].set()
    await asyncio.sleep(0)
    await scene.come("d")
    assert [number for _, number in scene.served] == [1, 3, 4]
    scene.tasks[4].cancel()
    with pytest.raises(asyncio.CancelledError):
        await scene.tasks[4]
    with pytest.raises(asyncio.CancelledError):
        await scene.tasks[2]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from("abcd")),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("leave"), st.integers(0, 30)),
        st.tuples(st.just("end and leave"), st.integers(0, 30)),
        st.tuples(st.just("room"), st.integers(1, 3)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_nobody_waits_for_two_turns_of_another_and_no_turn_is_lost(steps: list[tuple[str, str | int]]) -> None:
    async def play() -> None:
        scene = Scene(1)
        most = 3
        for what, value in steps:
            if what == "come":
                await scene.come(str(value))
            elif what == "room":
                scene.room = int(value)
            elif scene.tasks:
                number = sorted(scene.tasks)[int(value) % len(scene.tasks)]
                if what == "end and leave":  # in one moment: whatever runs ends, and this one leaves
                    for one in scene.running:
                        scene.ends[one].set()
                await (scene.end(number) if what == "end" else scene.leave(number))
            assert len(scene.running) <= most
            assert not scene.turns.waiting or len(scene.running) >= 1, "somebody waits, and nobody runs"
        scene.room = 1
        await scene.all_end()
        assert all(task.done() for task in scene.tasks.values()) and scene.turns.waiting == 0
        left = {number for number, task in scene.tasks.items() if task.cancelled()}
        assert {number for _, number in scene.served} >= set(scene.tasks) - left
        _check_rounds(scene)

    asyncio.run(play())


def _check_rounds(scene: Scene) -> None:
    """Between the moment a request was its key's next one and its turn, every other key had one turn at most."""
    last: dict[str, int] = {}
    for position, (key, number) in enumerate(scene.served):
        since = max(scene.came[number], last.get(key, -1) + 1)
        others = [other for other, _ in scene.served[since:position]]
        assert all(others.count(other) <= 1 for other in set(others) - {key}), (key, number, scene.served)
        last[key] = position
