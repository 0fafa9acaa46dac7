"""A tool that is loaded on the way leaves the prompt as it was, and is called by its name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from llmstack.protocol import chat
from llmstack.protocol.anthropic import BlockDelta, BlockStart, InputJsonDelta, MessageDelta, ToolUseBlock
from llmstack.protocol.loaded_tools import CALLER, unwrapped
from llmstack.protocol.message import Assembler
from llmstack.protocol.replay import Generated, Replay
from llmstack.protocol.request import ChatRequest, Translator, decode
from llmstack.protocol.stream import MessageStream
from llmstack.protocol.stream_settings import StreamSettings
from unit.protocol.test_request_translation import LOCAL, OPENAI, TOOL, assistant, result, sent, used, user

PLACEHOLDER = {"name": "DeferredToolPlaceholder", "input_schema": {"type": "object"}, "defer_loading": True}
QUERY = {"type": "object", "properties": {"query": {"type": "string"}, "most": {"type": "integer"}}}
WEB = {"name": "WebSearch", "description": "Searches the web.", "input_schema": QUERY, "defer_loading": True}
BEFORE = [TOOL, PLACEHOLDER]
AFTER = [PLACEHOLDER, TOOL, WEB]  # a client may put it anywhere
FIRST = user("look it up")
LOADED = (FIRST, assistant(used("t1", "ToolSearch")), user(result("t1", [{"type": "tool_reference", "tool_name": "WebSearch"}])))  # fmt: skip  # noqa: E501
CALLED = (*LOADED, assistant(used("t2", "WebSearch", query="x")), user(result("t2", "found")))


def bodies(*histories: tuple[Any, ...], replay: Replay | None = None) -> list[Any]:
    """Of a conversation that loads a tool behind its first request."""
    offered = [BEFORE] + [AFTER] * (len(histories) - 1)
    return [
        sent(LOCAL, replay, messages=list(turns), tools=tools, system="s")
        for turns, tools in zip(histories, offered, strict=True)
    ]


def test_what_was_sent_before_stays_as_it_was_when_a_tool_is_loaded_and_called() -> None:
    first, second, third = bodies((FIRST,), LOADED, CALLED)
    assert first["tools"] == second["tools"] == third["tools"]
    assert [tool["function"]["name"] for tool in first["tools"]] == ["Read", CALLER]
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert third["messages"][: len(second["messages"])] == second["messages"]


def test_a_loaded_tool_is_introduced_with_its_schema_where_it_was_loaded() -> None:
    text = bodies((FIRST,), LOADED)[1]["messages"][-1]["content"]
    head, function = text.split("\n")
    assert CALLER in head and '{"name": "WebSearch"' in head
    assert json.loads(function) == {"name": "WebSearch", "description": "Searches the web.", "parameters": QUERY}


def test_a_tool_that_a_system_message_adds_is_introduced_there() -> None:
    reference = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "WebSearch"}}
    definition = {"name": "New", "description": "d", "input_schema": {"type": "object"}}
    by_value = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": definition}}
    added = {"role": "system", "content": [{"type": "text", "text": "more:"}, reference, by_value]}
    before = sent(messages=[FIRST, assistant("ok")], tools=AFTER)
    after = sent(messages=[FIRST, assistant("ok"), user("go"), added], tools=AFTER)
    assert after["tools"] == before["tools"]
    assert all(name in after["messages"][-1]["content"] for name in ("more:", "[tool WebSearch is", "[tool New is"))


def test_a_server_that_keeps_no_cache_of_ours_gets_the_tool_itself() -> None:
    replay = Replay()
    replay.remember("t2", Generated("up", '{"name":"WebSearch","arguments":{"query":"x"}}', caller=CALLER))
    body = sent(OPENAI, replay, messages=list(CALLED), tools=AFTER)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["Read", "WebSearch"]
    assert body["messages"][3]["tool_calls"][0]["function"] == {"name": "WebSearch", "arguments": '{"query":"x"}'}


def test_a_client_with_a_tool_of_that_name_keeps_it() -> None:
    own = {"name": CALLER, "input_schema": {"type": "object"}}
    body = sent(messages=list(LOADED), tools=[own, WEB])
    assert [tool["function"]["name"] for tool in body["tools"]] == [CALLER, "WebSearch"]


def test_without_tools_that_are_held_back_there_is_no_such_function() -> None:
    assert [tool["function"]["name"] for tool in sent(tools=[TOOL])["tools"]] == ["Read"]


def test_a_loaded_tool_can_be_forced() -> None:
    body = sent(messages=list(LOADED), tools=AFTER, tool_choice={"type": "tool", "name": "WebSearch"})
    assert body["response_format"]["json_schema"]["schema"]["properties"] == QUERY["properties"]


# ---- the call ---------------------------------------------------------------------------------------------------


def request() -> ChatRequest:
    asked = {"model": "m", "max_tokens": 9, "messages": list(LOADED), "tools": AFTER}
    return Translator().to_chat(decode(json.dumps(asked).encode()), LOCAL)


def play(*pieces: str, finish: str = "tool_calls", replay: Replay | None = None, text: bool = False) -> list[Any]:
    """The events of a call of CALLER whose arguments come in pieces; text: as the model's own text."""
    box = request().toolbox
    settings = StreamSettings(
        model="m", message_id="m1", new_tool_id=lambda upstream_id: "t2", tools=box.schemas, caller=box.caller,
        remember=(Replay() if replay is None else replay).remember,
    )  # fmt: skip
    stream = MessageStream(settings)
    events: list[Any] = []
    for number, piece in enumerate(pieces):
        function = {"arguments": piece, **({"name": CALLER} if number == 0 else {})}
        delta = {"content": piece} if text else {"tool_calls": [{"index": 0, "id": "up", "function": function}]}
        events += stream.receive(chat.decode(msgspec.json.encode({"choices": [{"delta": delta}]})))
    events += stream.receive(chat.decode(msgspec.json.encode({"choices": [{"delta": {}, "finish_reason": finish}]})))
    return events + stream.end()


def blocks(events: list[Any]) -> Any:
    whole = Assembler()
    whole.receive(events)
    return whole.message["content"]


RAW = '{"name": "WebSearch", "arguments": {"query": "a \\"b\\"", "most": "3"}}'


@pytest.mark.parametrize("size", [1, 2, 7, len(RAW)])
def test_its_call_is_the_tools_own_however_it_is_cut(size: int) -> None:
    replay = Replay()
    events = play(*[RAW[start : start + size] for start in range(0, len(RAW), size)], replay=replay)
    (block,) = blocks(events)
    assert (block["name"], block["id"]) == ("WebSearch", "t2")
    assert block["input"] == {"query": 'a "b"', "most": 3}, "its arguments are read by its own schema"
    assert replay.get("t2") == Generated("up", RAW, caller=CALLER)


def test_the_next_turn_says_what_the_model_wrote() -> None:
    replay = Replay()
    play(RAW, replay=replay)
    call = bodies((FIRST,), CALLED, replay=replay)[1]["messages"][4]["tool_calls"][0]
    assert call == {"id": "up", "type": "function", "function": {"name": CALLER, "arguments": RAW}}


def test_a_call_that_nobody_remembers_is_written_as_one_by_name() -> None:
    call = bodies((FIRST,), CALLED)[1]["messages"][4]["tool_calls"][0]["function"]
    assert call == {"name": CALLER, "arguments": '{"name":"WebSearch","arguments":{"query":"x"}}'}


def test_a_call_of_a_listed_tool_by_name_is_replayed_as_it_was_made() -> None:
    replay = Replay()
    events = play('{"name":"read","arguments":{"p":"a"}}', replay=replay)
    assert blocks(events)[0]["name"] == "Read"
    history = (FIRST, assistant(used("t2", "Read", p="a")), user(result("t2", "text")))
    call = bodies((FIRST,), history, replay=replay)[1]["messages"][2]["tool_calls"][0]["function"]
    assert call == {"name": CALLER, "arguments": '{"name":"read","arguments":{"p":"a"}}'}


def test_a_call_in_the_models_text_is_the_tools_own_too() -> None:
    for inner in (f'{{"name":"{CALLER}","arguments":{RAW}}}', '{"name":"WebSearch","arguments":{"query":"q"}}'):
        (block,) = blocks(play(f"<tool_call>{inner}</tool_call>", text=True))
        assert block["name"] == "WebSearch" and block["input"]["query"]


def test_a_call_that_was_cut_names_no_tool_that_could_be_run() -> None:
    events = play(RAW[:30], finish="length")
    starts = [event.content_block for event in events if isinstance(event, BlockStart)]
    assert [block.name for block in starts if isinstance(block, ToolUseBlock)] == [CALLER]
    assert [event.delta.stop_reason for event in events if isinstance(event, MessageDelta)] == ["max_tokens"]
    assert not any("WebSearch" in event.delta.partial_json for event in events
                   if isinstance(event, BlockDelta) and isinstance(event.delta, InputJsonDelta)
                   and event.delta.partial_json.endswith("}}"))  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ('{"name":"A","arguments":{"x":1}}', ("A", '{"x":1}')),
        ('{"name":" A ","arguments":"{\\"x\\":1}"}', ("A", '{"x":1}')),
        ('{"name":"A","arguments":""}', ("A", "{}")),
        ('{"name":"A","x":1}', ("A", '{"x":1}')),
        ('{"name":"A"}', ("A", "{}")),
        ('{"name":"A","arguments":[1]}', None),
        ('{"name":"A","arguments":"x"}', None),
        ('{"name":"","arguments":{}}', None),
        ('{"name":7,"arguments":{}}', None),
        ("[1]", None),
        ("{", None),
    ],
)
def test_the_tool_that_is_meant_is_read_from_what_models_write(arguments: str, call: tuple[str, str] | None) -> None:
    assert unwrapped(arguments) == call


def test_a_call_by_name_that_names_nothing_stays_what_it_was() -> None:
    (block,) = blocks(play('{"tool":"WebSearch"}'))
    assert (block["name"], block["input"]) == (CALLER, {"tool": "WebSearch"})
