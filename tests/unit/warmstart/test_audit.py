"""The audit names the first place where a request does not continue the one before it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from llmstack.warmstart.audit import Auditor, divergence

CALL = {"id": "c1", "type": "function", "function": {"name": "run", "arguments": '{"a": 1}'}}
BODY: dict[str, Any] = {
    "tools": [{"name": "run"}],
    "messages": [
        {"role": "system", "content": "rules"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ],
}


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    body = copy.deepcopy(BODY)
    place: Any = body
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return body


@pytest.mark.parametrize(
    ("path", "value", "field", "byte", "why"),
    [
        (("messages", 0, "content"), "rulez", "messages[0].content", 4, "system text changed"),
        (("messages", 1, "content"), "hello\n", "messages[1].content", 5, "text added to an earlier message"),
        (("messages", 1, "content"), "jello", "messages[1].content", 0, "history rewritten"),
        (("messages", 2, "reasoning_content"), "", "messages[2].reasoning_content", 0, "reasoning changed or dropped"),
        (("tools", 0, "name"), "ran", "tools", 11, "tools changed"),
        (("reasoning_effort",), "low", "reasoning_effort", 0, "settings changed"),
    ],
)
def test_the_first_difference_is_named(path: tuple[Any, ...], value: Any, field: str, byte: int, why: str) -> None:
    found = divergence(BODY, changed(path, value))
    assert found is not None
    assert (found.field, found.byte, found.why) == (field, byte, why)


def test_rewritten_arguments_of_a_call_are_told_apart() -> None:
    now = changed(("messages", 2, "tool_calls"), [{**CALL, "function": {"name": "run", "arguments": '{"a":1}'}}])
    found = divergence(BODY, now)
    assert found is not None
    assert (found.field, found.why) == ("messages[2].tool_calls", "tool call rewritten by the client")


def test_a_history_that_lost_messages_says_so() -> None:
    found = divergence(BODY, {**BODY, "messages": BODY["messages"][:2]})
    assert found is not None and (found.field, found.why) == ("messages[2]", "history shortened")


def test_a_request_that_only_grew_has_no_difference() -> None:
    now = {**BODY, "messages": [*BODY["messages"], {"role": "user", "content": "more"}]}
    assert divergence(BODY, now) is None


def test_reuse_is_judged_against_the_request_before() -> None:
    auditor = Auditor()
    more = {**BODY, "messages": [*BODY["messages"], {"role": "user", "content": "more"}]}
    assert auditor.audit("a", BODY, reused=0, total=1000).why == "first request"
    assert auditor.audit("b", BODY, reused=900, total=1000).why == "shared prefix"
    assert auditor.audit("a", more, reused=990, total=1100).why == "grew"
    lost = auditor.audit("b", more, reused=100, total=1100)
    assert (lost.why, lost.at) == ("lost by the server", None)
    assert lost.to_json() == {"reused": 100, "of": 1100, "why": "lost by the server"}


def test_no_text_of_a_prompt_is_told() -> None:
    auditor = Auditor()
    auditor.audit("a", BODY, reused=0, total=10)
    told = auditor.audit("a", changed(("messages", 1, "content"), "a secret"), reused=5, total=10).to_json()
    assert "secret" not in str(told) and "hello" not in str(told)
