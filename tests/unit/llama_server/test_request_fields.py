"""What of a client's chat request llama-server is given."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, reject

from llmstack.llama_server.request_fields import FIELDS, WITHHELD, lost_trigger, reach
from llmstack.protocol.errors import Refused
from llmstack.protocol.request import Dialect, Translator, decode
from support.request_bodies import anthropic_bodies, openai_bodies, outside

HI = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@given(openai_bodies())
def test_no_field_outside_the_list_is_passed_on_and_every_other_is_unchanged(body: dict[str, Any]) -> None:
    before = msgspec.json.encode(body)
    passed, held_back = reach(body)
    assert outside(passed) == []
    assert msgspec.json.encode(body) == before, "the request itself stays as it was: a fallback may be given it whole"
    assert bool(held_back) == bool(outside(body))
    for name in ("temperature", "cache_prompt", "samplers"):
        assert passed.get(name) == body.get(name)
    for tool, whole in zip(passed.get("tools", ()), body.get("tools", ()), strict=True):
        assert tool["function"]["parameters"] == whole["function"]["parameters"], "a schema's names are the client's"


@given(anthropic_bodies())
def test_a_translated_messages_request_has_no_field_outside_the_list(body: dict[str, Any]) -> None:
    try:
        request = Translator().to_chat(decode(msgspec.json.encode(body)), Dialect(llama_server=True))
    except Refused:  # a field of the Messages API with a value of another type: nothing of it goes anywhere
        reject()
    assert outside(msgspec.json.decode(msgspec.json.encode(request.body))) == []


def test_a_request_with_nothing_to_hold_back_is_the_same_object() -> None:
    body = {**HI, "temperature": 0.5, "tools": [{"type": "function", "function": {"name": "f"}}]}
    passed, held_back = reach(body)
    assert passed is body and held_back == ()


@pytest.mark.parametrize("name", sorted(WITHHELD))
def test_each_field_that_is_the_server_s_own_is_held_back(name: str) -> None:
    assert name not in FIELDS
    passed, held_back = reach({**HI, name: [{"type": 1}]})
    assert passed == HI and held_back == (name,)


def test_what_is_no_object_is_left_for_the_server_to_refuse() -> None:
    body = {"model": "m", "messages": "x", "tools": ["x", {"function": 3}], "response_format": 1, "tool_choice": "auto"}
    assert reach(body).request == body


def test_a_grammar_that_waits_for_a_trigger_is_told_from_one_that_holds_at_once() -> None:
    assert lost_trigger({**HI, "grammar": "root ::= x", "grammar_lazy": True})
    assert not lost_trigger({**HI, "grammar": "root ::= x"})
    assert not lost_trigger({**HI, "grammar_lazy": True})


def test_a_huge_body_costs_no_more_than_its_keys() -> None:
    """16 MB of text in 400 messages; only their keys are looked at."""
    text = "x" * 40_000
    body = {**HI, "messages": [{"role": "user", "content": text} for _ in range(400)], "id_slot": 1}
    best = min(_seconds(body) for _ in range(5))
    assert best < 0.005, f"{best * 1000:.2f} ms"


def _seconds(body: dict[str, Any]) -> float:
    start = time.perf_counter()
    reach(body)
    return time.perf_counter() - start
