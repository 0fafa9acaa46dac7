"""Responses clients (Codex, Copilot): their request in neutral words, the answer as their official SDK reads it."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmstack.protocol.anthropic import ErrorBody, ErrorEvent, Event, MessageDelta, StopDelta, Usage
from llmstack.protocol.clients import responses_request
from llmstack.protocol.clients.asked import Asked, Stamp
from llmstack.protocol.clients.responses_store import ResponsesStore
from llmstack.protocol.dialect import Dialect
from llmstack.protocol.errors import Refused
from llmstack.protocol.request import Translator
from support.openai_sdk import Answering
from support.stream_replay import message, replay
from support.streams import CASES, Case, delta, finish, text, tool
from unit.protocol.clients.test_chat import arguments, expected

REQUESTS = Path(__file__).parent / "requests"


NUMBERS = count()


def stamp() -> Stamp:
    return Stamp(1, lambda kind: f"{kind}_{next(NUMBERS)}")


OPENAI = Dialect(llama_server=False, thinking="effort")


def asked(kept_here: ResponsesStore | None = None, **fields: Any) -> Asked:
    request = {"model": "m", "input": "hi", **fields}
    return responses_request.asked(json.dumps(request).encode(), stamp(), kept_here or ResponsesStore())


def kept(name: str, store: ResponsesStore | None = None, **changes: Any) -> Asked:
    request = json.loads((REQUESTS / f"{name}.json").read_bytes()) | changes
    return responses_request.asked(json.dumps(request).encode(), stamp(), store or ResponsesStore())


def forwarded(found: Asked, dialect: Dialect = OPENAI) -> Any:
    return json.loads(msgspec.json.encode(Translator().to_chat(found.request, dialect).body))


# ---- requests of the real clients ------------------------------------------------------------------------------


def test_codex_with_its_patch_tool() -> None:
    body = forwarded(kept("codex-0.171-third-apply-patch"))
    roles = [turn["role"] for turn in body["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool"]
    names = [entry["function"]["name"] for entry in body["tools"]]
    assert "apply_patch" in names and "multi_agent_v1__spawn_agent" in names and "web_search" not in names
    patch = next(entry["function"] for entry in body["tools"] if entry["function"]["name"] == "apply_patch")
    assert patch["parameters"]["required"] == ["input"] and "grammar" in patch["description"]
    (call,) = body["messages"][4]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["input"].startswith("*** Begin Patch")
    assert body["messages"][2]["reasoning_content"] == "I think."
    assert body["reasoning_effort"] == "medium" and "max_tokens" not in body


def test_codex_with_a_tool_of_a_namespace() -> None:
    body = forwarded(kept("codex-0.171-namespace-call"))
    (call,) = body["messages"][2]["tool_calls"]
    assert call["function"]["name"] == "multi_agent_v1__spawn_agent"


def test_codex_keeps_the_tools_of_a_thread_that_is_summed_up() -> None:
    store = ResponsesStore()
    before = forwarded(kept("codex-0.171-namespace-call", store))
    after = forwarded(kept("codex-0.171-compaction", store))
    assert after["tools"] == before["tools"] and after["tool_choice"] == "none"
    other = forwarded(kept("codex-0.171-compaction", store, prompt_cache_key="another thread"))
    assert "tools" not in other


def test_copilot() -> None:
    found = kept("copilot-1.0.102-third-responses")
    body = forwarded(found)
    assert [turn["role"] for turn in body["messages"]] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert found.request.max_tokens == 8192 and found.conversation == "bbd465c6c9a4b6a2969664a4393dd463"


# ---- items -----------------------------------------------------------------------------------------------------


def turns(*items: Any, **fields: Any) -> list[Any]:
    found: list[Any] = forwarded(asked(input=list(items), **fields))["messages"]
    return found


def test_instructions_and_the_first_developer_messages_are_the_system_text() -> None:
    found = turns(
        {"role": "developer", "content": "skills"},
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"role": "developer", "content": [{"type": "input_text", "text": "be brief"}]},
        instructions="rules",
    )
    assert found[0] == {"role": "system", "content": "rules\n\nskills"}
    assert [turn["role"] for turn in found] == ["system", "user"] and "be brief" in found[1]["content"]


def test_pictures_and_files_reach_the_model() -> None:
    (turn,) = turns(
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
                {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="},
            ],
        }
    )
    image, document = turn["content"]
    assert image["image_url"]["url"] == "data:image/png;base64,aGk=" and "hello" in document["text"]


def test_items_of_openais_own_tools_are_told() -> None:
    found = turns(
        {"role": "user", "content": "hi"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "cats"}},
        {"type": "local_shell_call", "call_id": "c", "action": {"command": ["ls"]}},
        {"type": "local_shell_call_output", "call_id": "c", "output": "a.py"},
    )
    assert "cats" in found[1]["content"] and '"ls"' in found[1]["content"] and "a.py" in found[2]["content"]


@pytest.mark.parametrize(
    "fields",
    [
        {"input": 3},
        {"input": [3]},
        {"input": [{"type": "message", "role": "who", "content": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": [{"type": 3}]},
        {"previous_response_id": "resp_unknown"},
        {"background": True},
        {"include": 7},
        {"tools": [3]},
        {"tools": [{"type": "function"}]},
        {"tools": 3},
        {"model": None},
    ],
)
def test_what_cannot_be_said_is_refused_and_is_no_fault(fields: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        asked(**fields)
    assert refused.value.failure.http_status == 400


# ---- answers ---------------------------------------------------------------------------------------------------


client = Answering()


def read(response: Any) -> tuple[str, str, list[tuple[str, Any]]]:
    said = "".join(part.text for item in response.output if item.type == "message" for part in item.content)
    thinking = "".join(part.text for item in response.output if item.type == "reasoning" for part in item.content)
    calls = [(item.name, arguments(item.arguments)) for item in response.output if item.type == "function_call"]
    return said, thinking, calls


whole_cases = pytest.mark.parametrize("case", [case for case in CASES if case.error is None], ids=str)
STATUS = {"max_tokens": "incomplete", "refusal": "incomplete"}


@whole_cases
def test_the_official_sdk_reads_the_stream(case: Case) -> None:
    content = asked().side().encode(replay(case, [case.data]))
    with client("text/event-stream", content).responses.stream(model="m", input="hi") as stream:
        numbers = [event.sequence_number for event in stream]
    assert numbers == list(range(len(numbers)))
    events = [json.loads(line[6:]) for line in content.splitlines() if line.startswith(b"data: ")]
    last = events[-1]
    assert last["type"] == f"response.{STATUS.get(case.stop, 'completed')}"
    opened = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    assert opened == [item["id"] for item in last["response"]["output"]]
    whole = client("application/json", msgspec.json.encode(last["response"])).responses.create(model="m", input="hi")
    assert read(whole) == expected(case)


@whole_cases
def test_the_official_sdk_reads_the_whole_answer(case: Case) -> None:
    content = asked().side().whole(message(replay(case, [case.data])))
    response = client("application/json", content).responses.create(model="m", input="hi")
    assert read(response) == expected(case)
    assert response.status == STATUS.get(case.stop, "completed")


def answer(found: Asked, data: bytes) -> list[dict[str, Any]]:
    content = found.side().encode(replay(Case("", data + finish()), [data + finish()]))
    return [json.loads(line[6:]) for line in content.splitlines() if line.startswith(b"data: ")]


def test_a_call_of_a_namespace_has_both_its_names_again() -> None:
    tools = [{"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "go", "parameters": {}}]}]
    events = answer(asked(tools=tools), tool(0, "call_abcdefgh", "ns__go", '{"a":1}'))
    (item,) = events[-1]["response"]["output"]
    assert (item["type"], item["namespace"], item["name"], item["arguments"]) == (
        "function_call",
        "ns",
        "go",
        '{"a":1}',
    )


def test_a_custom_tool_gets_its_text() -> None:
    tools = [
        {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}
    ]
    events = answer(asked(tools=tools), tool(0, "call_abcdefgh", "apply_patch", '{"input":"*** Beg', 'in"}'))
    (item,) = events[-1]["response"]["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", "*** Begin")
    assert [event["type"] for event in events if "custom" in event["type"]] == [
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
    ]


def test_thinking_comes_back_by_what_was_hidden_for_it() -> None:
    events = answer(asked(include=["reasoning.encrypted_content"]), delta(reasoning_content="hm") + text("yes"))
    thought, said = events[-1]["response"]["output"]
    thought |= {"content": None, "summary": []}
    found = turns({"role": "user", "content": "hi"}, thought, said, {"role": "user", "content": "go"})
    assert found[1]["reasoning_content"] == "hm" and found[1]["content"] == "yes"


def test_a_later_request_goes_on_from_a_stored_response() -> None:
    store = ResponsesStore()
    events = answer(asked(store), text("yes"))
    name = events[-1]["response"]["id"]
    found = forwarded(asked(store, input="go", previous_response_id=name))["messages"]
    assert [turn["content"] for turn in found] == ["hi", "yes", "go"]
    unstored = answer(asked(store, store=False), text("no"))
    assert store.get(unstored[-1]["response"]["id"]) is None


def test_a_sign_of_life_is_a_data_event_of_a_known_type() -> None:
    line = asked().side().encode([MessageDelta(StopDelta(), Usage())]).splitlines()[1]
    assert json.loads(line[6:])["type"] == "response.in_progress"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ErrorBody("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), "context_length_exceeded"),
        (ErrorBody("rate_limit_error", "slow"), "rate_limit_exceeded"),
        (ErrorBody("api_error", "x"), "server_error"),
    ],
)
def test_a_stream_that_breaks_off_ends_as_failed(error: ErrorBody, code: str) -> None:
    events: list[Event] = [ErrorEvent(error)]
    last = json.loads(asked().side().encode(events).splitlines()[-2][6:])
    assert last["type"] == "response.failed" and last["response"]["error"] == {"code": code, "message": error.message}


def test_what_nobody_reads_is_named() -> None:
    found = asked(top_logprobs=3, metadata={"a": "b"}, max_tool_calls=4, moderation=None)
    assert found.request.ignored == ("top_logprobs", "max_tool_calls")
