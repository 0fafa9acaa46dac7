"""The local server dies under a request: who is asked, who waits, who is refused. The supervisor is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from llmstack.catalog.routes import Target, parse
from llmstack.errors import MissingPart
from llmstack.protocol.errors import Cause, Refused, unavailable
from llmstack.proxy.death_table import EngineWork, WorkKind, request
from llmstack.proxy.engine_deaths import EngineDeaths
from llmstack.supervisor import LogLine, ServiceState, ServiceStatus, Supervisor

CATALOG = """
[upstreams.local]
kind = "llama-server"
[upstreams.far]
kind = "llama-server"
base_url = "http://far"
[[routes]]
match = "far"
upstream = "far"
[[routes]]
match = "*"
upstream = "local"
"""
ASSERT = "/src/ggml.c:12: GGML_ASSERT(n_tokens > 0) failed"


def target(name: str = "m") -> Target:
    choice = parse(CATALOG).choose(name)
    assert choice is not None
    return choice.targets[0]


def chat(text: str) -> EngineWork:
    return request({"messages": [{"role": "user", "content": text}]})


class MemorySupervisor:
    """One server, which dies when told to and is there again at once."""

    def __init__(self, kind: str = "process") -> None:
        self.kind = kind
        self.now = 1000.0
        self.started = 0.0
        self.restarts = 0
        self.state = ServiceState.RUNNING
        self.fault: Exception | None = None
        self.looks = 0

    def die(self) -> None:
        self.now += 40.0
        self.restarts += 1
        self.started = self.now

    def restart(self) -> None:
        self.now += 40.0
        self.restarts, self.started = 0, self.now

    def status(self) -> dict[str, ServiceStatus]:
        self.looks += 1
        if self.fault is not None:
            raise self.fault
        uptime = self.now - self.started if self.state is ServiceState.RUNNING else None
        return {"server": ServiceStatus("server", self.state, 1, uptime, self.restarts, "killed by SIGABRT")}

    def logs(self, names: Any, *, last: int | None, since_s: float | None) -> list[LogLine]:
        return [LogLine(0.0, "server", text) for text in ("a prompt: secret stuff", ASSERT, "llmstack: killed")]


class World:
    def __init__(self, kind: str = "process") -> None:
        self.supervisor = MemorySupervisor(kind)
        self.events: list[dict[str, Any]] = []
        self.deaths = EngineDeaths(
            lambda: cast(Supervisor, self.supervisor),
            lambda event, fields: self.events.append({"event": event, **fields}),
            clock=lambda: self.supervisor.now,
        )

    async def ask(self, text: str, *, dies: bool = False, beside: asyncio.Event | None = None, **options: Any) -> str:
        """answered, 529 or 400."""
        try:
            async with self.deaths.asking(target(), lambda: chat(text), **options):
                if dies:
                    self.break_connection(self.supervisor.die)
                    raise Refused(unavailable("local closed the connection", Cause.UNREACHABLE))
                if beside is not None:
                    await beside.wait()
                    raise Refused(unavailable("local closed the connection", Cause.UNREACHABLE))
        except Refused as refused:
            self.failure = refused.failure
            return str(refused.failure.http_status)
        return "answered"

    def break_connection(self, what: Callable[[], None]) -> None:
        what()
        self.deaths.cut(target())


async def test_at_the_second_death_the_request_is_refused_with_the_engines_last_words() -> None:
    world = World()
    assert [await world.ask("poison", dies=True) for _ in range(2)] == ["529", "400"]
    message = world.failure.message
    assert "died twice on this request (killed by SIGABRT; " in message and "GGML_ASSERT(n_tokens > 0)" in message
    assert "secret stuff" not in message and "/clear" in message and world.failure.kind.value == "invalid_request_error"
    assert await world.ask("poison") == "400" and await world.ask("something else") == "answered"
    assert world.deaths.to_json() == {"requests": 1}
    assert "GGML" not in str(world.events) and "poison" not in str(world.events)


async def test_an_answer_in_between_clears_it() -> None:
    world = World()
    assert [await world.ask("hi", dies=dies) for dies in (True, False, True)] == ["529", "answered", "529"]


async def test_a_count_in_between_clears_nothing() -> None:
    world = World()
    assert await world.ask("poison", dies=True) == "529"
    assert await world.ask("poison", proves=False) == "answered"
    assert await world.ask("poison", dies=True) == "400"


async def test_a_connection_that_breaks_without_a_death_is_nobodys_fault() -> None:
    world = World()
    for _ in range(3):
        task = asyncio.create_task(world.ask("hi", beside=(gate := asyncio.Event())))
        await asyncio.sleep(0)
        world.break_connection(lambda: None)
        await asyncio.sleep(0.01)
        world.supervisor.now += 10.0
        gate.set()
        assert await task == "529"


async def test_a_restart_on_request_is_no_death_and_clears_the_rest() -> None:
    world = World()
    assert [await world.ask("poison", dies=True) for _ in range(2)] == ["529", "400"]
    world.supervisor.restart()
    assert await world.ask("poison") == "answered"
    for _ in range(3):
        task = asyncio.create_task(world.ask("hi", beside=(gate := asyncio.Event())))
        await asyncio.sleep(0)
        world.break_connection(world.supervisor.restart)
        gate.set()
        assert await task == "529"


async def test_a_restart_between_two_deaths_lets_it_be_tried_again() -> None:
    world = World()
    assert await world.ask("poison", dies=True) == "529"
    world.supervisor.restart()
    assert await world.ask("poison", dies=True) == "529"


async def test_another_deployment_forgets() -> None:
    world = World()
    assert [await world.ask("poison", dies=True) for _ in range(2)] == ["529", "400"]
    world.deaths.forget()
    assert await world.ask("poison") == "answered"


async def test_an_innocent_request_beside_the_poison_is_asked_alone_and_answered() -> None:
    world = World()
    gate = asyncio.Event()
    innocent = asyncio.create_task(world.ask("a long story", beside=gate))
    await asyncio.sleep(0)
    assert await world.ask("poison", dies=True) == "529"
    gate.set()
    assert await innocent == "529"
    order: list[str] = []

    async def again(text: str, **options: Any) -> None:
        order.append(f"{text}: {await world.ask(text, **options)}")

    async def slowly() -> None:
        async with world.deaths.asking(target(), lambda: chat("a long story")):
            await asyncio.sleep(0.02)
            order.append("a long story is told")

    telling = asyncio.create_task(slowly())
    await asyncio.sleep(0)
    await asyncio.gather(telling, again("poison", dies=True), again("somebody else"))
    assert order == ["a long story is told", "poison: 400", "somebody else: answered"]
    assert await world.ask("a long story") == "answered"


async def test_who_gives_up_while_waiting_to_be_alone_holds_nobody_up() -> None:
    world = World()
    gate = asyncio.Event()
    first = asyncio.create_task(world.ask("a long story", beside=gate))
    await asyncio.sleep(0)
    assert await world.ask("poison", dies=True) == "529"
    waiting = asyncio.create_task(world.ask("poison"))
    await asyncio.sleep(0)
    behind = asyncio.create_task(world.ask("somebody else"))
    await asyncio.sleep(0)
    assert not behind.done()
    waiting.cancel()
    assert await behind == "answered"
    gate.set()
    await first


async def test_a_prefix_the_server_died_on_twice_is_known() -> None:
    world = World()
    work = EngineWork(WorkKind.PREFIX, b"tokens")
    for dead in (False, True):
        with world.deaths.working(target(), lambda: work):
            world.break_connection(world.supervisor.die)
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})  # the inquiry, which asks in a thread
        assert world.deaths.guilty(lambda: work) is dead
    assert world.deaths.to_json() == {"prefixes": 1}


async def test_systemd_counts_a_death_only_when_it_starts_the_next_process() -> None:
    world = World("systemd")
    for status in ("529", "400"):
        world.supervisor.now += 40.0
        world.supervisor.state = ServiceState.BACKOFF
        task = asyncio.create_task(world.ask("poison", beside=(gate := asyncio.Event())))
        await asyncio.sleep(0)
        world.deaths.cut(target())
        gate.set()
        assert await task == status
        world.supervisor.state = ServiceState.RUNNING
        world.supervisor.die()


@pytest.mark.parametrize("fault", [MissingPart("no bus"), OSError("no file")])
async def test_a_supervisor_that_cannot_tell_blames_nobody(fault: Exception) -> None:
    world = World()
    world.supervisor.fault = fault
    assert [await world.ask("poison", dies=True) for _ in range(3)] == ["529", "529", "529"]


async def test_a_server_elsewhere_is_none_of_our_business() -> None:
    world = World()
    async with world.deaths.asking(target("far"), lambda: chat("hi")):
        world.deaths.cut(target("far"))
    assert world.supervisor.looks == 0
