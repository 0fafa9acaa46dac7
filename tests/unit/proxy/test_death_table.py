"""What is held against which work after the server died: values in, values out."""

from __future__ import annotations

from typing import Any

from llmstack.proxy.death_table import DeathTable, EngineWork, WorkKind, request

STATE = EngineWork(WorkKind.STATE)


def asked(*texts: str, **more: Any) -> EngineWork:
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    return request({"model": "m", "messages": messages, **more})


def prefix(text: str) -> EngineWork:
    return EngineWork(WorkKind.PREFIX, text.encode())


POISON, LONG = asked("poison please"), asked("a long story")


def guilty(table: DeathTable, work: EngineWork, now: float = 0.0) -> bool:
    suspicion = table.suspicion(work, now)
    return suspicion is not None and suspicion.guilty


def after(*deaths: tuple[EngineWork, ...]) -> DeathTable:
    table = DeathTable()
    for in_flight in deaths:
        table.died(in_flight, "killed by SIGABRT", 0.0)
    return table


def test_the_second_death_with_one_request_alone_makes_it_guilty() -> None:
    assert not guilty(after((POISON,)), POISON)
    assert guilty(after((POISON,), (POISON,)), POISON)


def test_one_that_was_alone_once_is_guilty_although_another_ran_beside_it_then() -> None:
    table = after((POISON,), (POISON, LONG))
    assert guilty(table, POISON) and not guilty(table, LONG)


def test_two_that_died_side_by_side_are_suspects_and_the_one_that_dies_alone_is_guilty() -> None:
    table = after((POISON, LONG))
    assert [table.suspicion(work, 0.0) for work in (POISON, LONG)].count(None) == 0
    table.survived(LONG)
    table.died((POISON,), "", 0.0)
    assert guilty(table, POISON) and table.suspicion(LONG, 0.0) is None


def test_one_that_is_never_alone_is_guilty_at_the_third_death() -> None:
    others = [asked(f"innocent {number}") for number in range(3)]
    table = after((POISON, others[0]), (POISON, others[1]))
    assert not guilty(table, POISON)
    table.died((POISON, others[2]), "", 0.0)
    assert guilty(table, POISON) and not any(guilty(table, other) for other in others)


def test_two_tries_of_one_request_at_once_are_one() -> None:
    assert guilty(after((POISON, POISON), (POISON, POISON)), POISON)


def test_what_differs_between_two_tries_makes_no_other_request() -> None:
    again = asked("poison please", max_tokens=5, stream=True, tools=[1])
    assert guilty(after((POISON,), (again,)), POISON)
    assert not guilty(after((POISON,), (POISON,)), asked("poison please", response_format={"type": "json_object"}))


def test_a_later_request_of_the_conversation_inherits_what_is_held_against_it() -> None:
    table = after((POISON,), (POISON,))
    assert guilty(table, asked("poison please", "an answer", "and now?"))
    assert guilty(table, asked("poison please\nand now?"))  # Claude Code joins user texts without an answer between
    parts = {"role": "user", "content": [{"type": "text", "text": "poison please"}]}
    table = after(*[(request({"messages": [parts]}),)] * 2)
    more = {"role": "user", "content": [*parts["content"], {"type": "text", "text": "more"}]}
    assert guilty(table, request({"messages": [more]}))


def test_another_request_that_begins_with_the_same_words_is_another_one() -> None:
    table = after((asked("hi"),), (asked("hi"),))
    assert not guilty(table, asked("history")) and not guilty(table, asked("h")) and guilty(table, asked("hi"))


def test_a_conversation_that_dies_turn_by_turn_is_guilty_at_its_second_turn() -> None:
    """With a fallback the first turn is answered elsewhere, and the client never resends it."""
    later = asked("poison please", "from elsewhere", "go on")
    assert guilty(after((POISON,), (later,)), later)


def test_an_answer_clears_it_and_what_it_continues() -> None:
    table = after((POISON,))
    table.survived(asked("poison please", "an answer", "more"))
    assert len(table) == 0


def test_a_prefix_and_the_request_that_needs_it_are_both_suspected_as_one_alone() -> None:
    table = after((POISON, prefix("system")), (POISON, prefix("system")))
    assert guilty(table, POISON) and guilty(table, prefix("system"))
    assert not guilty(table, prefix("system and more"))


def test_a_state_takes_the_blame_alone_and_all_states_are_one() -> None:
    table = after((POISON, STATE), (LONG, STATE))
    assert guilty(table, STATE) and table.suspicion(POISON, 0.0) is None and table.suspicion(LONG, 0.0) is None


def test_time_forgets() -> None:
    table = DeathTable(forget_s=100.0)
    table.died((POISON,), "", 0.0)
    table.died((POISON,), "", 50.0)
    assert guilty(table, POISON, 150.0) and table.guilty(WorkKind.REQUEST, 150.0) == 1
    assert table.guilty(WorkKind.REQUEST, 151.0) == 0 and not guilty(table, POISON, 151.0) and len(table) == 0


def test_memory_is_bounded() -> None:
    table = DeathTable(most=8)
    for number in range(100):
        table.died((asked(f"number {number}"),), "", 0.0)
    assert len(table) == 8
    assert table.suspicion(asked("number 99"), 0.0) is not None and table.suspicion(asked("number 9"), 0.0) is None


def test_nothing_in_flight_is_nobodys_fault() -> None:
    assert len(after((), ())) == 0
