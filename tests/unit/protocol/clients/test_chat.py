"""Chat completions clients: their request in neutral words, the answer in theirs."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from llmstack.protocol.anthropic import MessageDelta, StopDelta, Usage
from llmstack.protocol.clients import chat_request
from llmstack.protocol.clients.asked import Asked, Stamp
from llmstack.protocol.clients.chat_answer import ChatSide
from llmstack.protocol.dialect import Dialect
from llmstack.protocol.errors import Refused
from llmstack.protocol.request import Translator
from support.openai_sdk import Answering
from support.stream_replay import message, replay
from support.streams import CASES, Case

STAMP = Stamp(1, str)
OPENAI = Dialect(llama_server=False, thinking="effort")


def asked(**fields: Any) -> Asked:
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return chat_request.asked(json.dumps(request).encode(), STAMP)


def forwarded(dialect: Dialect = OPENAI, **fields: Any) -> Any:
    chat = Translator().to_chat(asked(**fields).request, dialect)
    return json.loads(msgspec.json.encode(chat.body))


CALL = {"id": "call_123456789", "type": "function", "function": {"name": "f", "arguments": '{"b":1,"a":[2]}'}}
PIXEL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


def test_a_conversation_comes_out_as_it_went_in() -> None:
    turns = [
        {"role": "system", "content": "rules"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, PIXEL]},
        {"role": "assistant", "content": "I will", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_123456789", "content": "done"},
        {"role": "assistant", "content": "so", "reasoning_content": "thought"},
        {"role": "user", "content": "go"},
    ]
    assert forwarded(messages=turns)["messages"] == turns


def test_a_system_message_on_the_way_is_folded_where_it_stands() -> None:
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "system", "content": "the mode is plan"},
        {"role": "user", "content": "go"},
    ]
    found = forwarded(messages=turns)["messages"]
    assert [turn["role"] for turn in found] == ["user", "assistant", "user"]
    assert "the mode is plan" in found[-1]["content"]


def test_arguments_that_were_cut_become_an_object_that_a_template_can_print() -> None:
    cut = {**CALL, "function": {"name": "f", "arguments": '{"text": "<!DOC'}}
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [cut]},
        {"role": "tool", "tool_call_id": "call_123456789", "content": "invalid"},
    ]
    (call,) = forwarded(messages=turns)["messages"][1]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"arguments": '{"text": "<!DOC'}


def test_settings_are_translated_and_what_has_no_neutral_name_goes_beside() -> None:
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    fields: dict[str, Any] = {
        "temperature": 0.2,
        "stop": "END",
        "max_completion_tokens": 7,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        "seed": 3,
        "min_p": 0.1,
        "user": "u",
        "prompt_cache_key": "thread-1",
    }
    found = asked(**fields)
    assert found.extra == {"seed": 3, "min_p": 0.1, "user": "u", "prompt_cache_key": "thread-1"}
    assert found.conversation == "thread-1"
    assert found.request.max_tokens == 7 and not found.as_it_is
    body = forwarded(**fields)
    assert (body["temperature"], body["stop"], body["reasoning_effort"]) == (0.2, ["END"], "low")
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert asked(response_format={"type": "json_object"}).extra == {"response_format": {"type": "json_object"}}


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"n": 2}, "several answers"),
        ({"logprobs": True}, "log probabilities"),
        ({"modalities": ["text", "audio"]}, "no text"),
        ({"functions": [{"name": "f"}]}, "functions in their old form"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "no functions"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "input_audio"),
    ],
)
def test_what_only_its_own_words_can_say_is_passed_on_as_it_is(fields: dict[str, Any], what: str) -> None:
    assert what in asked(**fields).as_it_is


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": 3},
        {"messages": [3]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": 3}]}]},
        {"messages": [{"role": "assistant", "tool_calls": 3}]},
        {"messages": [{"role": "assistant", "tool_calls": [3]}]},
        {"messages": [{"role": "who"}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
        {"tools": 3},
        {"model": 3},
        {"stop": 3},
        {"max_tokens": "many"},
    ],
)
def test_a_wrong_shape_is_refused_and_is_no_fault(fields: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        asked(**fields)
    assert refused.value.failure.http_status == 400


# ---- towards an Anthropic upstream -------------------------------------------------------------------------------


def body(**fields: Any) -> Any:
    made = asked(**fields).body
    assert made is not None
    return made()


def test_an_anthropic_upstream_gets_a_messages_body() -> None:
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}
    found = body(
        messages=[
            {"role": "developer", "content": "rules"},
            {"role": "user", "content": [pdf, PIXEL]},
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_123456789", "content": [{"type": "text", "text": "done"}, PIXEL]},
        ],
        reasoning_effort="high",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
    )
    assert found["system"] == "rules" and found["max_tokens"] == 8192
    document, image = found["messages"][0]["content"]
    assert document["title"] == "a.pdf" and document["source"]["data"] == "JVBERg=="
    assert image["source"]["media_type"] == "image/png"
    assert found["messages"][1]["content"][0]["input"] == {"b": 1, "a": [2]}
    assert [part["type"] for part in found["messages"][2]["content"][0]["content"]] == ["text", "image"]
    assert found["output_config"] == {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert found["tools"][0]["strict"] is True and found["tool_choice"] == {"type": "tool", "name": "f"}


def test_thinking_without_its_signature_is_not_sent_to_anthropic() -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "t"}]
    assert body(messages=turns)["messages"][1]["content"] == [{"type": "text", "text": "a"}]


# ---- answers -----------------------------------------------------------------------------------------------------

STOPS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
whole_cases = pytest.mark.parametrize("case", [case for case in CASES if case.error is None], ids=str)


client = Answering()


def expected(case: Case) -> tuple[str, str, list[tuple[str, Any]]]:
    text = "".join(str(block[1]) for block in case.blocks if block[0] == "text")
    thinking = "".join(str(block[1]) for block in case.blocks if block[0] == "thinking")
    return text, thinking, [(str(block[1]), block[-1]) for block in case.blocks if block[0] == "tool"]


def arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return {"__unparsedToolInput": {"raw": text, "len": len(text)}}


@whole_cases
def test_the_official_sdk_reads_the_stream(case: Case) -> None:
    content = ChatSide("m", 1, usage=True).encode(replay(case, [case.data]))
    text, thinking, calls = "", "", list[list[str]]()
    finish, figures = None, None
    stream = client("text/event-stream", content).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    for chunk in stream:
        figures = chunk.usage or figures
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            text += choice.delta.content or ""
            thinking += getattr(choice.delta, "reasoning_content", None) or ""
            for piece in choice.delta.tool_calls or ():
                assert piece.function is not None
                if piece.id:
                    calls.append([piece.function.name or "", ""])
                assert piece.index == len(calls) - 1
                calls[-1][1] += piece.function.arguments or ""
    assert (text, thinking, [(name, arguments(given)) for name, given in calls]) == expected(case)
    assert finish == STOPS.get(case.stop, "content_filter")
    assert figures is not None and figures.total_tokens == figures.prompt_tokens + figures.completion_tokens


@whole_cases
def test_the_official_sdk_reads_the_whole_answer(case: Case) -> None:
    content = ChatSide("m", 1).whole(message(replay(case, [case.data])))
    completion = client("application/json", content).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}]
    )
    (choice,) = completion.choices
    calls = [(call.function.name, arguments(call.function.arguments)) for call in choice.message.tool_calls or ()]  # type: ignore[union-attr]
    found = (choice.message.content or "", getattr(choice.message, "reasoning_content", None) or "", calls)
    assert found == expected(case)
    assert choice.finish_reason == STOPS.get(case.stop, "content_filter")


def test_a_sign_of_life_is_a_chunk_and_says_nothing() -> None:
    side = ChatSide("m", 1)
    chunk = json.loads(side.encode([MessageDelta(StopDelta(), Usage())]).removeprefix(b"data: "))
    assert chunk["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
