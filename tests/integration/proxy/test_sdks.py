"""The official SDKs' helpers through the real proxy: streams, tool runners, answers of a shape."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from anthropic import Anthropic, beta_tool
from pydantic import BaseModel

from support.proxy_stand import TOKEN, ProxyStand
from support.streams import DONE, finish, text, tool, usage
from support.upstream import Upstream


class Llama(BaseModel):
    name: str
    legs: int


ASK: Any = [{"role": "user", "content": "Which llama?"}]
SHAPED = '{"name": "Dolly", "legs": 4}'


@pytest.fixture
def anthropic_sdk(stand: ProxyStand) -> Anthropic:
    return Anthropic(api_key=TOKEN, base_url=stand.url, max_retries=0, timeout=30)


@pytest.fixture
def openai_sdk(stand: ProxyStand) -> openai.OpenAI:
    return openai.OpenAI(api_key=TOKEN, base_url=f"{stand.url}/v1", max_retries=0, timeout=30)


async def shaped(asked: Any, wire: Any) -> None:
    await wire.stream(text(SHAPED[:9]), text(SHAPED[9:]), finish(), usage(10, 5), DONE)


async def counts_legs(asked: Any, wire: Any) -> None:
    """Calls the tool for two llamas at once, then says what came back."""
    results = [turn["content"] for turn in asked.json["messages"] if turn["role"] == "tool"]
    if results:
        await wire.stream(text("legs: " + " and ".join(results)), finish(), usage(30, 5), DONE)
    else:
        calls = [tool(number, f"up{number}", "legs_of", json.dumps({"name": name})) for number, name in enumerate("ab")]
        await wire.stream(*calls, finish("tool_calls"), usage(20, 9), DONE)


def test_anthropics_tool_runner_runs_both_calls_of_a_turn(anthropic_sdk: Anthropic, upstream: Upstream) -> None:
    upstream.script = counts_legs

    @beta_tool
    def legs_of(name: str) -> str:
        """Counts the legs of a llama.

        Args:
            name: its name
        """
        return f"{name} has 4"

    runner = anthropic_sdk.beta.messages.tool_runner(model="m", max_tokens=99, tools=[legs_of], messages=ASK)
    last = runner.until_done()
    assert last.content[0].type == "text" and last.content[0].text == "legs: a has 4 and b has 4"
    assert len(upstream.completions) == 2


def test_anthropics_stream_helper_gathers_a_call(anthropic_sdk: Anthropic, upstream: Upstream) -> None:
    upstream.script = counts_legs
    tools: Any = [{"name": "legs_of", "input_schema": {"type": "object", "properties": {"name": {"type": "string"}}}}]
    with anthropic_sdk.messages.stream(model="m", max_tokens=99, tools=tools, messages=ASK) as stream:
        message = stream.get_final_message()
    assert [block.input for block in message.content if block.type == "tool_use"] == [{"name": "a"}, {"name": "b"}]
    assert message.stop_reason == "tool_use" and message.usage.output_tokens == 9


def test_an_answer_of_a_shape_is_one_for_each_sdk(
    anthropic_sdk: Anthropic, openai_sdk: openai.OpenAI, upstream: Upstream
) -> None:
    upstream.script = shaped
    by_messages = anthropic_sdk.messages.parse(model="m", max_tokens=99, messages=ASK, output_format=Llama)
    assert by_messages.parsed_output == Llama(name="Dolly", legs=4)
    by_chat = openai_sdk.chat.completions.parse(model="m", messages=ASK, response_format=Llama)
    assert by_chat.choices[0].message.parsed == Llama(name="Dolly", legs=4)
    by_responses = openai_sdk.responses.parse(model="m", input="Which llama?", text_format=Llama)
    assert by_responses.output_parsed == Llama(name="Dolly", legs=4)
    for asked in upstream.completions:
        schema = asked.json["response_format"]["json_schema"]["schema"]
        assert set(schema["properties"]) == {"name", "legs"}, "the upstream is told the shape"


def test_openais_stream_helpers_gather_calls_and_shapes(openai_sdk: openai.OpenAI, upstream: Upstream) -> None:
    upstream.script = counts_legs
    parameters = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    function: Any = {"name": "legs_of", "strict": True, "parameters": {**parameters, "additionalProperties": False}}
    with openai_sdk.chat.completions.stream(
        model="m", messages=ASK, tools=[{"type": "function", "function": function}]
    ) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls is not None and [json.loads(call.function.arguments)["name"] for call in calls] == ["a", "b"]
    upstream.script = shaped
    with openai_sdk.responses.stream(model="m", input="Which llama?", text_format=Llama) as events:
        assert events.get_final_response().output_parsed == Llama(name="Dolly", legs=4)


def test_the_tokens_of_a_responses_request_are_counted(openai_sdk: openai.OpenAI) -> None:
    short, long = (openai_sdk.responses.input_tokens.count(model="m", input="llama " * n) for n in (1, 400))
    assert 0 < short.input_tokens < long.input_tokens


def test_openais_client_goes_on_with_the_results_of_calls(openai_sdk: openai.OpenAI, upstream: Upstream) -> None:
    upstream.script = counts_legs
    tools: Any = [{"type": "function", "name": "legs_of", "parameters": {"type": "object", "properties": {}}}]
    first = openai_sdk.responses.create(model="m", input="Which llama?", tools=tools)
    results: Any = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "4"}
        for item in first.output
        if item.type == "function_call"
    ]
    second = openai_sdk.responses.create(model="m", input=results, tools=tools, previous_response_id=first.id)
    assert second.output_text == "legs: 4 and 4"
