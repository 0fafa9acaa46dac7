"""Clients of the Gemini API: their request in neutral words, the answer in theirs."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from llmstack.protocol.anthropic import MessageDelta, StopDelta, Usage
from llmstack.protocol.clients import gemini_request
from llmstack.protocol.clients.asked import Asked, Stamp
from llmstack.protocol.clients.gemini_answer import SIGNATURE, GeminiSide
from llmstack.protocol.clients.gemini_request import plain_schema
from llmstack.protocol.dialect import Dialect
from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused, unavailable
from llmstack.protocol.request import Translator
from support.stream_replay import message, replay
from support.streams import CASES, Case

STAMP = Stamp(1, lambda kind: f"{kind}_1")
HI = [{"role": "user", "parts": [{"text": "hi"}]}]


def asked(**fields: Any) -> Asked:
    request = {"contents": HI, **fields}
    return gemini_request.asked(json.dumps(request).encode(), STAMP, model="m", stream=True)


def forwarded(**fields: Any) -> Any:
    chat = Translator().to_chat(asked(**fields).request, Dialect())
    return json.loads(msgspec.json.encode(chat.body))


def call(name: str, call_id: str = "", signature: str = "", **arguments: Any) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": name, "args": arguments, **({"id": call_id} if call_id else {})}}
    return {**part, **({"thoughtSignature": signature} if signature else {})}


def result(name: str, response: Any, call_id: str = "") -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": response, **({"id": call_id} if call_id else {})}}


def turns(*contents: tuple[str, list[Any]]) -> list[Any]:
    return [{"role": role, "parts": parts} for role, parts in contents]


def test_a_conversation_with_calls_comes_out_in_chat_words() -> None:
    contents = turns(
        ("user", [{"text": "context"}, {"text": "look"}]),
        ("model", [{"text": "hm", "thought": True}, {"text": "I look."}, call("read", "r1", path="a")]),
        ("user", [result("read", {"output": "text of a"}, "r1")]),
    )
    found = forwarded(contents=contents, systemInstruction={"parts": [{"text": "rules"}]})["messages"]
    function = {"name": "read", "arguments": '{"path":"a"}'}
    assert found == [
        {"role": "system", "content": "rules"},
        {"role": "user", "content": "context\n\nlook"},
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "r1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "r1", "content": "text of a"},
    ]


def test_a_call_is_known_by_its_signature_its_id_or_else_its_function() -> None:
    calls = [call("a", "own1", SIGNATURE + "toolu_1"), call("b", "own2", "skip"), call("b"), call("a")]
    results = [result("b", {"result": "3"}), result("a", {"output": "1"}, "own1"), result("b", "2", "own2"),
               result("a", {"x": 4})]  # fmt: skip
    found = forwarded(contents=turns(("user", [{"text": "go"}]), ("model", calls), ("user", results)))["messages"]
    assert [each["id"] for each in found[1]["tool_calls"]] == ["toolu_1", "own2", "call_3", "call_4"]
    answers = {"toolu_1": "1", "own2": "3", "call_3": "2", "call_4": '{"x":4}'}
    assert {turn["tool_call_id"]: turn["content"] for turn in found[2:6]} == answers


def test_an_error_of_a_function_is_one() -> None:
    contents = turns(("user", [{"text": "go"}]), ("model", [call("a", "1")]), ("user", [result("a", {"error": "no"})]))
    assert forwarded(contents=contents)["messages"][-1]["content"] == "[tool error] no"


def test_settings_have_their_counterparts() -> None:
    schema = {"type": "OBJECT", "properties": {"n": {"type": "INTEGER", "nullable": True}}}
    config = {
        "temperature": 1, "topP": 0.9, "topK": 64.0, "maxOutputTokens": 7, "stopSequences": ["END"], "seed": 3,
        "responseMimeType": "application/json", "responseSchema": schema,
        "thinkingConfig": {"thinkingBudget": 512, "includeThoughts": True},
    }  # fmt: skip
    request = asked(generationConfig=config)
    neutral = request.request
    assert (neutral.max_tokens, neutral.top_k, neutral.stop_sequences, request.extra) == (7, 64, ["END"], {"seed": 3})
    body = forwarded(generationConfig=config)
    assert body["thinking_budget_tokens"] == 512 and body["top_p"] == 0.9
    shape = body["response_format"]["json_schema"]["schema"]
    assert shape["properties"]["n"]["type"] == ["integer", "null"]
    for budget, kind in ((0, "disabled"), (-1, "adaptive")):
        thinking = asked(generationConfig={"thinkingConfig": {"thinkingBudget": budget}}).request.thinking
        assert thinking is not None and thinking.type == kind
    assert forwarded(generationConfig={"thinkingConfig": {"thinkingLevel": "LOW"}})["reasoning_effort"] == "low"


def test_tools_are_functions_by_either_kind_of_schema_and_a_choice_names_one() -> None:
    declarations = [
        {"name": "a", "description": "d", "parametersJsonSchema": {"type": "object", "properties": {}}},
        {"name": "b", "parameters": {"type": "OBJECT", "properties": {"x": {"type": "STRING", "minLength": "1"}}}},
    ]
    tools = [{"functionDeclarations": declarations}]
    functions = [tool["function"] for tool in forwarded(tools=tools)["tools"]]
    assert functions[1]["parameters"] == {"type": "object", "properties": {"x": {"type": "string", "minLength": 1}}}
    one = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["b"]}}
    choice = asked(tools=tools, toolConfig=one).request.tool_choice
    assert choice is not None and (choice.type, choice.name) == ("tool", "b")
    assert forwarded(tools=tools, toolConfig={"functionCallingConfig": {"mode": "ANY"}})["tool_choice"] == "required"
    assert forwarded(tools=tools, toolConfig={"functionCallingConfig": {"mode": "NONE"}})["tool_choice"] == "none"


def test_tools_of_googles_servers_are_those_of_anthropics() -> None:
    tools = asked(tools=[{"googleSearch": {}}, {"urlContext": {}}, {"codeExecution": {}}]).request.tools
    assert [tool.name for tool in tools or ()] == ["web_search", "web_fetch", "code_execution"]


def test_images_and_documents_come_by_their_bytes() -> None:
    parts = [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}, {"text": "what is it?"}]
    content = forwarded(contents=turns(("user", parts)))["messages"][0]["content"]
    assert content[0] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"contents": 3}, "contents"),
        ({"contents": [{"role": "system", "parts": []}]}, "role"),
        ({"contents": [3]}, "none of generateContent"),
        ({"contents": [{"parts": [{"functionCall": {"args": {}}}]}]}, "none of generateContent"),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "u"}}]}]}, "inlineData"),
        ({"cachedContent": "c"}, "cachedContent"),
        ({"generationConfig": {"candidateCount": 2}}, "candidateCount"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "answers are text"),
        ({"generationConfig": {"responseLogprobs": True}}, "responseLogprobs"),
        ({"tools": [{"functionDeclarations": [{"description": "d"}]}]}, "none of generateContent"),
        ({"tools": 3}, "none of generateContent"),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        asked(**fields)


def test_a_schema_of_googles_is_read_to_any_depth() -> None:
    schema = {"type": "ARRAY", "items": {"anyOf": [{"type": "NUMBER"}, {"type": "OBJECT", "properties": {}}]},
              "propertyOrdering": ["a"], "maxItems": "4"}  # fmt: skip
    assert plain_schema(schema) == {
        "type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "object", "properties": {}}]}, "maxItems": 4,
    }  # fmt: skip


# ---- the answer -------------------------------------------------------------------------------------------------


def responses(data: bytes) -> list[Any]:
    events = data.split(b"\n\n")
    assert events[-1] == b"" and all(event.startswith(b"data: ") for event in events[:-1])
    return [json.loads(event[6:]) for event in events[:-1]]


def parts_of(chunks: list[Any]) -> list[Any]:
    return [part for chunk in chunks for each in chunk.get("candidates", ()) for part in each["content"]["parts"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_stream_and_a_whole_answer_say_the_same(case: Case) -> None:
    events = replay(case, [case.data])
    side = GeminiSide("m", "r", thoughts=True)
    chunks = responses(side.encode(events))
    if case.error is not None:
        assert chunks[-1]["error"]["code"] >= 400
        return
    body = json.loads(GeminiSide("m", "r", thoughts=True).whole(message(events)))
    (candidate,) = body["candidates"]
    assert chunks[-1]["candidates"][0]["finishReason"] == candidate["finishReason"]
    assert chunks[-1]["usageMetadata"] == body["usageMetadata"]
    for thought in (True, False):
        texts = [
            "".join(p["text"] for p in parts if "text" in p and bool(p.get("thought")) is thought)
            for parts in (parts_of(chunks), candidate["content"]["parts"])
        ]
        assert texts[0] == texts[1]
    calls = [
        [part["functionCall"]["name"] for part in parts if "functionCall" in part]
        for parts in (parts_of(chunks), candidate["content"]["parts"])
    ]
    assert calls[0] == calls[1]


def test_a_sign_of_life_is_an_event_without_content_and_thoughts_are_shown_on_request() -> None:
    (chunk,) = responses(GeminiSide("m", "r").encode([MessageDelta(StopDelta(), Usage())]))
    assert "candidates" not in chunk
    whole = {"content": [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "a"}]}
    (part,) = json.loads(GeminiSide("m", "r").whole(whole))["candidates"][0]["content"]["parts"]
    assert part == {"text": "a"}
    assert isinstance(json.loads(GeminiSide("m", "r", array=True).whole(whole)), list)


@pytest.mark.parametrize(
    ("failure", "code", "status"),
    [
        (unavailable("busy", Cause.OVERLOADED, 2), 503, "UNAVAILABLE"),
        (Failure(FailureKind.AUTHENTICATION, "no"), 401, "UNAUTHENTICATED"),
        (Failure(FailureKind.INVALID, "bad"), 400, "INVALID_ARGUMENT"),
        (Failure(FailureKind.API, "oops"), 500, "INTERNAL"),
    ],
)
def test_an_error_is_in_googles_words(failure: Failure, code: int, status: str) -> None:
    error = json.loads(GeminiSide("m", "r").failure(failure, ""))["error"]
    assert (error["code"], error["status"]) == (code, status)


def test_what_nobody_reads_is_named() -> None:
    assert asked(safetySettings=[{"category": "x"}], labels={"a": "b"}).request.ignored == ("safetySettings",)
