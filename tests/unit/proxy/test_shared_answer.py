"""The states of an answer that several clients share: each row of the table, and every move that is none."""

from __future__ import annotations

import asyncio

import pytest

from llmstack.catalog.routes import Target, parse
from llmstack.protocol.anthropic import (
    BlockDelta,
    BlockStart,
    Event,
    MessageBody,
    MessageStart,
    TextBlock,
    TextDelta,
    Usage,
)
from llmstack.protocol.errors import Cause, Failure, FailureKind, ProtocolFault
from llmstack.protocol.stream_settings import StreamSettings
from llmstack.proxy import shared_answer
from llmstack.proxy.fallback import Answered, Handover, Outcome, Unanswered
from llmstack.proxy.shared_answer import MOVES, AnswerSignal, AnswerState, InFlight, SharedAnswer

FAILURE = Failure(FailureKind.OVERLOADED, "nobody there", Cause.UNREACHABLE)
EVENTS: list[Event] = [
    MessageStart(message=MessageBody(id="msg_1", model="m", usage=Usage())),
    BlockStart(index=0, content_block=TextBlock()),
    BlockDelta(index=0, delta=TextDelta("words")),
]
CLOUD = '[upstreams.cloud]\nkind = "anthropic"\nbase_url = "https://x"\n[[routes]]\nmatch = "*"\nupstream = "cloud"\n'


def cloud() -> Target:
    route = parse(CLOUD).choose("m")
    assert route is not None
    return route.targets[0]


def answer(*, streaming: bool = True) -> SharedAnswer:
    made = SharedAnswer(streaming=streaming, grace_s=0.0, on_finish=lambda finished: None)
    made.open_stream(StreamSettings(model="m", message_id="msg_1", new_tool_id=lambda upstream_id: upstream_id))
    return made


def led_to(state: AnswerState) -> SharedAnswer:
    made = answer()
    if state in (AnswerState.STREAMING, AnswerState.DONE):
        made.emit(EVENTS)
    outcome: dict[AnswerState, Outcome] = {
        AnswerState.DONE: Answered(),
        AnswerState.REFUSED: Unanswered(FAILURE),
        AnswerState.HANDED_OVER: Handover(cloud(), ""),
    }
    if state in outcome:
        made.end(outcome[state])
    assert made.state is state
    return made


@pytest.mark.parametrize("state", AnswerState)
@pytest.mark.parametrize("signal", AnswerSignal)
def test_a_move_is_in_the_table_or_an_error_that_names_both(state: AnswerState, signal: AnswerSignal) -> None:
    moved = led_to(state)
    if (state, signal) in MOVES:
        moved._move(signal)
        assert moved.state is MOVES[state, signal]
    else:
        with pytest.raises(ProtocolFault, match=f"SharedAnswer: {signal.name} in state {state.name}"):
            moved._move(signal)
        assert moved.state is state


def test_a_streamed_answer_is_done_when_its_attempt_has_answered() -> None:
    made = answer()
    listener = made.listen()
    made.emit(EVENTS)
    assert made.state is AnswerState.STREAMING
    assert b"words" in made.take(listener) and made.take(listener) == b""
    made.end(Answered())
    assert made.state is AnswerState.DONE and made.failure is None


def test_a_whole_answer_waits_until_it_is_complete() -> None:
    made = answer(streaming=False)
    made.emit(EVENTS)
    assert made.state is AnswerState.WAITING and made.size == 0
    made.end(Answered())
    assert made.state is AnswerState.DONE and b"msg_1" in made.assembler.body()


@pytest.mark.parametrize("streaming", [True, False])
def test_a_failure_before_anything_was_sent_is_a_refusal(streaming: bool) -> None:
    made = answer(streaming=streaming)
    if not streaming:
        made.emit(EVENTS)
    made.end(Unanswered(FAILURE))
    assert made.state is AnswerState.REFUSED and made.failure is FAILURE


def test_a_failure_behind_a_stream_is_its_last_event() -> None:
    made = answer()
    listener = made.listen()
    made.keepalive()
    assert made.state is AnswerState.STREAMING and made.first_byte is None, "a keepalive is not the upstream's"
    made.end(Unanswered(FAILURE))
    assert made.state is AnswerState.DONE
    assert made.take(listener).endswith(b'"message":"nobody there"}}\n\n')
    assert made.failure is FAILURE and made.refusal is None


def test_an_answer_without_an_event_is_lost() -> None:
    made = answer()
    made.end(Answered())
    assert made.state is AnswerState.REFUSED and made.failure is not None and made.failure.cause is Cause.CUT


def test_a_handover_keeps_where_it_leads() -> None:
    made = answer()
    made.end(Handover(cloud(), "local->cloud: loading"))
    assert made.state is AnswerState.HANDED_OVER and made.handover is not None and made.failure is None
    with pytest.raises(ProtocolFault):
        led_to(AnswerState.STREAMING).end(Handover(cloud(), ""))


@pytest.mark.parametrize("state", [AnswerState.DONE, AnswerState.REFUSED, AnswerState.HANDED_OVER])
def test_nothing_follows_the_end(state: AnswerState) -> None:
    made = led_to(state)
    made.keepalive()
    made.stop(FAILURE)
    assert made.state is state
    for outcome in (Answered(), Unanswered(FAILURE), Handover(cloud(), "")):
        with pytest.raises(ProtocolFault):
            made.end(outcome)
    with pytest.raises(ProtocolFault):
        made.emit(EVENTS)


async def test_equal_requests_share_an_answer_until_it_is_finished() -> None:
    in_flight, go_on = InFlight(), asyncio.Event()

    async def work(running: SharedAnswer) -> Outcome:
        await go_on.wait()
        return Unanswered(FAILURE)

    first = in_flight.begin("key", work, streaming=True, join=True)
    assert in_flight.find("key") is first and in_flight.find("other") is None and in_flight.waiting == 1
    listener = first.listen()
    go_on.set()
    await listener.wait()
    assert first.state is AnswerState.REFUSED and in_flight.find("key") is None and not in_flight.active


async def test_the_last_listener_that_leaves_ends_the_work_and_one_that_comes_back_in_time_does_not() -> None:
    in_flight, ended = InFlight(grace_s=0.0), asyncio.Event()

    async def work(running: SharedAnswer) -> Outcome:
        try:
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            ended.set()

    running = in_flight.begin("key", work, streaming=True, join=True)
    running.leave(running.listen())
    listener = running.listen()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not running.finished
    running.leave(listener)
    await ended.wait()
    await asyncio.sleep(0)
    assert running.failure is not None and running.failure.cause is Cause.STOPPING


async def test_a_slow_listener_holds_the_upstream_until_it_has_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_answer, "BACKLOG", 10)
    made = answer()
    listener = made.listen()
    made.emit(EVENTS)
    waiting = asyncio.create_task(made.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    made.take(listener)
    await waiting
