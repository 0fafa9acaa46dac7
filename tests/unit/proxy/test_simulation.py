"""The proxy by seed: thousands of short lives on a clock that jumps, and faults planted to see that they are found.

    PYTHONPATH=tests python -m support.simulation SEED --trace

shows one life step by step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llmstack.protocol import sse
from llmstack.protocol.anthropic import MessageStop
from llmstack.proxy import attempt, client_writer, conversations
from llmstack.proxy.answer_reader import AnswerReader
from llmstack.proxy.attempt import Attempt
from llmstack.proxy.engine_deaths import EngineDeaths
from llmstack.proxy.fallback import Answered
from llmstack.proxy.shared_answer import AnswerState, InFlight, SharedAnswer
from llmstack.warmstart.slots import ServerSlots, SlotContents
from llmstack.warmstart.store import Store
from support.simulation.world import Grounds, grounds, play

pytestmark = pytest.mark.timeout(1800)  # on a busy machine

SEEDS = 2500
LONG_SEEDS = 10_000
TWICE = 40  # seeds that are played again
SEARCHED = 400  # seeds within which a planted fault must be found


@pytest.fixture(scope="module")
def ground() -> Iterator[Grounds]:
    with grounds() as made:
        yield made


def test_no_seed_breaks_a_rule(ground: Grounds, pytestconfig: pytest.Config) -> None:
    broken = {}
    for seed in range(LONG_SEEDS if pytestconfig.option.long else SEEDS):
        outcome = play(ground, seed)
        if outcome.broken:
            broken[seed] = outcome.broken
    assert not broken, f"python -m support.simulation {next(iter(broken))} --trace"


def test_a_seed_is_the_same_life_each_time_whatever_is_done_to_the_wall_clock(ground: Grounds) -> None:
    for seed in range(TWICE):
        first, again = play(ground, seed), play(ground, seed)
        assert first.trace == again.trace, f"seed {seed} cannot be replayed"
        assert play(ground, seed, clock_steps=False).trace == first.trace, f"seed {seed}: the wall clock decides"


def found(ground: Grounds, words: str, seeds: range = range(SEARCHED)) -> int:
    """The first seed that breaks that rule."""
    for seed in seeds:
        if any(words in line for line in play(ground, seed).broken):
            return seed
    raise AssertionError(f"no seed of {seeds} finds it")


# ---- the simulation itself: what is planted is found ---------------------------------------------------------------


def test_an_end_that_is_sent_twice_is_found(ground: Grounds, monkeypatch: pytest.MonkeyPatch) -> None:
    end = SharedAnswer.end

    def twice(self: SharedAnswer, outcome: Any) -> None:
        if isinstance(outcome, Answered) and self.state is AnswerState.STREAMING and self.streaming:
            self._pieces.append(sse.encode_all([MessageStop()]))
        end(self, outcome)

    monkeypatch.setattr(SharedAnswer, "end", twice)
    found(ground, "2 ends of one stream")


def test_a_stream_without_an_end_is_found(ground: Grounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnswerReader, "broken", lambda self, failure: None)
    found(ground, "a stream without an end")


def test_a_place_that_is_not_given_back_is_found(ground: Grounds, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = EngineDeaths.asking

    @asynccontextmanager
    async def keeps(self: EngineDeaths, *arguments: Any, **named: Any) -> AsyncIterator[None]:
        try:
            async with asking(self, *arguments, **named):
                yield
        except asyncio.CancelledError:
            self._turns._running += 1
            raise

    monkeypatch.setattr(EngineDeaths, "asking", keeps)
    found(ground, "left behind: 1 requests counted as running")


def test_an_answer_that_is_never_forgotten_is_found(ground: Grounds, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = InFlight.begin

    def keeps(self: InFlight, key: Any, *arguments: Any, **named: Any) -> SharedAnswer:
        answer = begin(self, key, *arguments, **named)
        forget = answer._on_finish
        answer._on_finish = lambda ended: forget(ended) if ended.refusal is None else None
        return answer

    monkeypatch.setattr(InFlight, "begin", keeps)
    found(ground, "an answer that has ended is in flight")


def test_a_retry_after_the_first_byte_is_found(ground: Grounds, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Attempt._ask

    async def again(self: Attempt, prepared: Any) -> None:
        await ask(self, prepared)
        if prepared.stream.failure is not None:
            upstreams = self._context.upstreams
            headers = upstreams.headers(self._target)
            response = await upstreams.post(self._target, "/v1/chat/completions", prepared.body, headers)
            response.close()

    monkeypatch.setattr(Attempt, "_ask", again)
    found(ground, "after a byte was sent")


@pytest.mark.parametrize("module", [client_writer, attempt], ids=["keepalives", "the wait for a model"])
def test_a_deadline_on_the_wall_clock_is_found(ground: Grounds, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    class Wall:
        monotonic = staticmethod(lambda: time.time())

    monkeypatch.setattr(module, "time", Wall)
    traces: Callable[[int], bool] = lambda seed: (  # noqa: E731
        play(ground, seed).trace != play(ground, seed, clock_steps=False).trace
    )
    assert any(traces(seed) for seed in range(SEARCHED)), "no wall clock's step makes a difference"


def test_a_claim_on_a_slot_that_somebody_has_used_since_is_found(
    ground: Grounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def believes(self: ServerSlots, number: int, state: Any, task: Any) -> None:
        slot = next(slot for slot in await self.server.slots() if slot.number == number)
        tokens = self.store.tokens(state)
        if tokens is not None:
            self.contents[number] = SlotContents(slot.task, state, tokens)

    monkeypatch.setattr(ServerSlots, "_holds", believes)
    found(ground, "is said to hold what is not in it", range(1200, 1500))  # one seed in five hundred sees it


def test_a_state_under_the_name_of_a_prefix_that_is_not_in_it_is_found(
    ground: Grounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Store.finish

    def unlooked(self: Store, *arguments: Any, exactly: Any = None, **named: Any) -> Any:
        return finish(self, *arguments, **named)

    monkeypatch.setattr(Store, "finish", unlooked)
    found(ground, "a state is kept for a prefix that is not in it", range(560, 960))  # one seed in two hundred sees it


def test_a_task_that_is_left_running_is_found(ground: Grounds, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = conversations._watch

    async def stays(*arguments: Any) -> None:
        await watch(*arguments)
        await asyncio.Event().wait()

    monkeypatch.setattr(conversations, "_watch", stays)
    found(ground, "left behind: a task")
