"""The proxy in front of a real llama.cpp server."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from anthropic import Anthropic

TOOLS: list[Any] = [
    {
        "name": "Read",
        "description": "Reads a file",
        "input_schema": {
            "type": "object",
            "properties": {"path": {"type": "string", "pattern": "^(a+)+$", "maxLength": 10**9}},
            "required": ["path"],
        },
    }
]
HELLO: list[Any] = [{"role": "user", "content": "hello there"}]


@pytest.fixture(scope="module")
def sdk(demo_stack: Any) -> Anthropic:
    return Anthropic(api_key=demo_stack.token, base_url=demo_stack.url, max_retries=0, timeout=120)


def test_a_count_is_exactly_what_the_engine_computes(sdk: Anthropic) -> None:
    turns: list[Any] = [
        *HELLO,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "/é"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "漢字 and words"}]},
    ]
    for asked in (HELLO, turns):
        counted = sdk.messages.count_tokens(model="m", messages=asked, tools=TOOLS).input_tokens
        usage = sdk.messages.create(model="m", max_tokens=2, messages=asked, tools=TOOLS).usage
        assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_the_second_turn_reuses_the_first(sdk: Anthropic) -> None:
    system = "A long standing instruction about the work at hand. " * 20
    first = sdk.messages.create(model="m", max_tokens=8, system=system, messages=HELLO)
    said = first.content[0].text
    longer: list[Any] = [*HELLO, {"role": "assistant", "content": said}, {"role": "user", "content": "and now?"}]
    second = sdk.messages.create(model="m", max_tokens=2, system=system, messages=longer).usage
    before = first.usage.input_tokens + (first.usage.cache_read_input_tokens or 0)
    assert (second.cache_read_input_tokens or 0) >= before - 8
    assert second.input_tokens < 64


def test_streaming_gives_what_asking_gives(sdk: Anthropic) -> None:
    whole = sdk.messages.create(model="m", max_tokens=12, extra_body={"temperature": 0}, messages=HELLO)
    with sdk.messages.stream(model="m", max_tokens=12, extra_body={"temperature": 0}, messages=HELLO) as stream:
        final = stream.get_final_message()
    assert final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason == "max_tokens"
    assert final.usage.output_tokens == whole.usage.output_tokens == 12


def test_the_stop_word_that_ended_it_is_named(sdk: Anthropic) -> None:
    stopped = sdk.messages.create(
        model="m", max_tokens=40, extra_body={"temperature": 0}, messages=HELLO, stop_sequences=["zzz", "words"]
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "words")
    assert "words" not in stopped.content[0].text


def test_an_overflow_has_the_words_and_the_exact_number(sdk: Anthropic, demo_stack: Any) -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 70_000}]
    exact = sdk.messages.count_tokens(model="m", messages=long).input_tokens
    with pytest.raises(Exception, match=f"prompt is too long: {exact} tokens > 65536 maximum"):
        sdk.messages.create(model="m", max_tokens=9, messages=long)


def test_giving_up_in_prefill_frees_the_slot_within_seconds(demo_stack: Any, sdk: Anthropic) -> None:
    """llama.cpp#24496: the next request does not wait for a prompt that nobody wants read any more."""
    body = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "slow " * 12_000}]}
    headers = {"x-api-key": demo_stack.token}
    with httpx.stream("POST", f"{demo_stack.url}/v1/messages", json=body, headers=headers, timeout=60) as response:
        assert response.status_code == 200
        first = next(response.iter_raw())
        assert b"message_start" in first and b"content_block" not in first, "it is still reading the prompt"
    begun = time.monotonic()
    sdk.messages.create(model="m", max_tokens=1, messages=HELLO)
    assert time.monotonic() - begun < 8


def test_a_text_is_completed_and_its_tokens_named_by_the_engine_itself(demo_stack: Any) -> None:
    with httpx.Client(base_url=demo_stack.url, headers={"x-api-key": demo_stack.token}, timeout=60) as client:
        tokens = client.post("/tokenize", json={"content": "The demo model"}).json()["tokens"]
        assert tokens and client.post("/detokenize", json={"tokens": tokens}).json()["content"] == "The demo model"
        asked = {"model": "m", "prompt": "The demo", "max_tokens": 4, "temperature": 0, "id_slot": 0}
        done = client.post("/v1/completions", json=asked).json()
        assert done["choices"][0]["text"] and done["usage"]["completion_tokens"] == 4
        with client.stream("POST", "/v1/completions", json={**asked, "stream": True}) as stream:
            assert stream.read().rstrip().endswith(b"[DONE]")
