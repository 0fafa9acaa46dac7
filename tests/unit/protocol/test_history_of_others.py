"""A conversation that began at another provider goes on here: nothing of it is fatal, and nothing that was known is
lost."""

from __future__ import annotations

from typing import Any

import pytest

from llmstack.protocol.dialect import Dialect
from llmstack.protocol.errors import Refused
from llmstack.protocol.replay import Generated, Replay
from unit.protocol.test_request_translation import (
    OPENAI,
    TOOL,
    assistant,
    messages,
    result,
    said,
    sent,
    system,
    used,
    user,
)

CALL = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "code_execution", "input": {"code": "1+1"}}


def answer(kind: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": kind, "tool_use_id": "srvtoolu_1", "content": content, **more}


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (
            answer(
                "code_execution_tool_result",
                {
                    "type": "code_execution_result",
                    "stdout": "two\n",
                    "stderr": "warned",
                    "return_code": 3,
                    "content": [],
                },
            ),
            ["two", "stderr: warned", "return_code: 3"],
        ),
        (
            answer(
                "bash_code_execution_tool_result",
                {
                    "type": "bash_code_execution_result",
                    "stdout": "out",
                    "stderr": "",
                    "return_code": 0,
                    "content": [{"type": "bash_code_execution_output", "file_id": "file_1"}],
                },
            ),
            ["out", "file_id: file_1"],
        ),
        (
            answer(
                "text_editor_code_execution_tool_result",
                {"type": "text_editor_code_execution_view_result", "content": "line", "file_type": "text"},
            ),
            ["line", "file_type: text"],
        ),
        (
            answer(
                "text_editor_code_execution_tool_result",
                {"type": "text_editor_code_execution_str_replace_result", "lines": ["-a", "+b"]},
            ),
            ["-a", "+b"],
        ),
        (
            answer(
                "web_fetch_tool_result",
                {
                    "type": "web_fetch_result",
                    "url": "https://e.test/p",
                    "content": {
                        "type": "document",
                        "title": "T",
                        "source": {"type": "text", "media_type": "text/plain", "data": "the page"},
                    },
                },
            ),
            ["https://e.test/p", "the page", 'title="T"'],
        ),
        (
            answer("web_search_tool_result", {"type": "web_search_tool_result_error", "error_code": "unavailable"}),
            ["error: unavailable"],
        ),
        (
            answer("web_search_tool_result", [{"type": "web_search_result", "title": "T", "url": "https://e.test"}]),
            ["- T https://e.test"],
        ),
        (answer("mcp_tool_result", [said("from the server")], is_error=True), ["from the server", "an error"]),
        (answer("mcp_tool_result", "plain"), ["plain"]),
        (answer("advisor_tool_result", {"type": "advisor_result", "text": "do less"}), ["do less"]),
        (
            answer("advisor_tool_result", {"type": "advisor_redacted_result", "encrypted_content": "xyz"}),
            ["only Anthropic's servers can read"],
        ),
        (
            answer(
                "tool_search_tool_result",
                {
                    "type": "tool_search_tool_search_result",
                    "tool_references": [{"type": "tool_reference", "tool_name": "Read"}],
                },
            ),
            ["Read"],
        ),
        (
            answer("a_kind_of_next_year_tool_result", {"type": "new", "verdict": {"text": "yes"}, "score": 0.5}),
            ["yes", "score: 0.5"],
        ),
        (
            {"type": "mcp_tool_use", "id": "m1", "name": "look", "server_name": "maps", "input": {"a": 1}},
            ['maps.look: {"a":1}'],
        ),
        (
            {"type": "mcp_tool_listing", "mcp_server_name": "maps", "tools": [{"name": "look"}, {"name": "go"}]},
            ["maps: look, go"],
        ),
        ({"type": "container_upload", "file_id": "file_1"}, ["no access"]),
    ],
)
def test_what_the_other_model_knew_is_told(block: dict[str, Any], words: list[str]) -> None:
    turn = messages(user("q"), assistant(CALL, block, said("so")), user("go"))[1]
    assert turn["role"] == "assistant" and turn["content"].endswith("so")
    assert all(word in turn["content"] for word in words), turn["content"]


def test_a_note_of_which_model_answered_says_nothing() -> None:
    fallback = {"type": "fallback", "from": {"model": "x"}, "to": {"model": "y"}}
    assert messages(user("q"), assistant(fallback, said("so")), user("go"))[1]["content"] == "so"


def test_a_summary_stands_for_everything_before_it() -> None:
    found = messages(
        system("rules"),
        user("old question"),
        assistant(said("old answer"), {"type": "compaction", "content": "we agreed on blue"}, said("and now?")),
        user("go"),
    )
    assert [turn["role"] for turn in found] == ["system", "user", "assistant", "user"]
    assert "we agreed on blue" in found[1]["content"]
    assert "old" not in str(found)
    assert found[2]["content"] == "and now?"


def test_a_summary_that_failed_takes_nothing_away() -> None:
    found = messages(user("old question"), assistant({"type": "compaction", "content": None}, said("yes")), user("go"))
    assert [turn["content"] for turn in found] == ["old question", "yes", "go"]


@pytest.mark.parametrize("inside", [False, True])
def test_a_search_result_is_told_with_its_source(inside: bool) -> None:
    block = {"type": "search_result", "source": "https://e.test", "title": "T", "content": [said("body")]}
    if inside:
        found = messages(user("q"), assistant(used()), user(result(content=[block])))
    else:
        found = messages(user(block))
    assert found[-1]["content"] == "T\nhttps://e.test\nbody"


def test_results_of_one_turn_may_come_in_several_user_messages() -> None:
    found = messages(
        user("do"),
        assistant(used("a1"), used("b1")),
        user(result("b1", "resB")),
        system("a note"),
        user(result("a1", "resA"), said("next")),
    )
    tools = [(turn["tool_call_id"], turn["content"]) for turn in found if turn["role"] == "tool"]
    assert tools == [("a1", "resA"), ("b1", "resB\n\n<system-reminder>\na note\n</system-reminder>")]
    assert found[-1] == {"role": "user", "content": "next"}


def test_a_billing_header_is_stripped_from_a_system_message_on_the_way() -> None:
    found = messages(
        user("q"), assistant("a"), system("x-anthropic-billing-header: cc_version=2;\nbe brief"), user("go")
    )
    assert "billing" not in str(found) and "be brief" in str(found)


def test_what_came_beside_a_call_goes_back_with_it() -> None:
    replay = Replay()
    replay.remember("t1", Generated("call_1", '{"p":"a"}', '{"google":{"thought_signature":"s"}}'))
    turns = (user("q"), assistant(used()), user(result()))
    (call,) = messages(*turns, replay=replay, dialect=OPENAI)[1]["tool_calls"]
    assert call["extra_content"] == {"google": {"thought_signature": "s"}}
    (call,) = messages(*turns, replay=replay)[1]["tool_calls"]
    assert "extra_content" not in call


def test_a_conversation_that_the_server_should_keep_is_refused_in_the_sdks_words() -> None:
    with pytest.raises(Refused) as refused:
        sent(thread={"type": "continue", "previous_message_id": "msg_1"})
    error = refused.value.failure
    assert error.http_status == 400
    assert error.details == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    assert b'"details":{"error_code":"thread_unsupported_request"' in error.to_anthropic()


# ---- tools that come and go ---------------------------------------------------------------------------------

SEARCH = {"name": "search", "description": "d", "input_schema": {"type": "object"}, "defer_loading": True}


def change(kind: str, tool: dict[str, Any]) -> dict[str, Any]:
    return {"role": "system", "content": [{"type": kind, "tool": tool}]}


def names(*turns: Any, tools: list[Any], dialect: Dialect = OPENAI) -> list[str]:
    body = sent(messages=list(turns), tools=tools, dialect=dialect)
    return [tool["function"]["name"] for tool in body.get("tools", [])]


def test_a_tool_is_added_by_reference_and_by_value_behind_the_others() -> None:
    added = change("tool_addition", {"type": "tool_reference", "name": "search"})
    defined = {"type": "tool_definition", "definition": {"name": "new", "input_schema": {"type": "object"}}}
    tools = [SEARCH, TOOL]
    assert names(user("q"), tools=tools) == ["Read"]
    assert names(user("q"), added, user("go"), tools=tools) == ["Read", "search"]
    assert names(user("q"), change("tool_addition", defined), user("go"), tools=tools) == ["Read", "new"]


def test_a_removed_tool_is_offered_no_more_until_it_comes_back() -> None:
    gone = change("tool_removal", {"type": "tool_reference", "name": "Read"})
    back = change("tool_addition", {"type": "tool_reference", "name": "Read"})
    other = {**TOOL, "name": "Write"}
    assert names(user("q"), gone, user("go"), tools=[TOOL, other]) == ["Write"]
    assert names(user("q"), gone, user("go"), back, user("on"), tools=[TOOL, other]) == ["Write", "Read"]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "tool_reference", "name": "nobody"},
        {"type": "tool_definition", "definition": {"description": "d"}},
        {"type": "x"},
        3,
    ],
)
def test_a_change_that_names_no_tool_is_refused_with_its_place(tool: Any) -> None:
    with pytest.raises(Refused, match=r"messages\[1\].content\[0\].tool"):
        sent(messages=[user("q"), change("tool_addition", tool), user("go")], tools=[TOOL])


def test_a_tool_that_was_loaded_stands_behind_what_was_there_wherever_the_client_puts_it() -> None:
    found = result("s1", [{"type": "tool_reference", "tool_name": "search"}])
    turns = (user("q"), assistant(used("s1", "Read")), user(found))
    assert names(*turns, tools=[SEARCH, TOOL]) == ["Read", "search"]


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ([{"input_schema": {}}], r"tools\[0\].name"),
        ([TOOL, {"name": "", "input_schema": {}}], r"tools\[1\].name"),
        ([TOOL, TOOL], r"tools\[1\].name: there is another"),
        ([{"type": "browser_toolset_20260801"}], "known to Anthropic's models alone"),
    ],
)
def test_a_tool_that_cannot_be_offered_is_refused_by_its_place(tools: list[Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        sent(tools=tools)


def test_effort_may_change_on_the_way() -> None:
    def effort(*turns: Any) -> Any:
        config = {"effort": "high"}
        thinking = {"type": "adaptive"}
        return sent(OPENAI, messages=list(turns), output_config=config, thinking=thinking)["reasoning_effort"]

    low = {"role": "system", "content": [], "output_config": {"effort": "low"}}
    assert effort(user("q")) == "high"
    assert effort(user("q"), low, user("go")) == "low"
    assert effort(user("q"), {"role": "system", "output_config": {"effort": "medium"}}, user("go")) == "medium"


# ---- hosts that are stricter than Anthropic ----------------------------------------------------------------------

LONG = "mcp__a_server_with_a_very_long_name__" + "and_a_tool_with_a_longer_one_" * 3


def test_a_long_name_is_cut_the_same_way_everywhere_and_given_back() -> None:
    tool = {**TOOL, "name": LONG}
    turns = [user("q"), assistant(used("t1", LONG)), user(result())]
    choice = {"type": "tool", "name": LONG}
    body = sent(OPENAI, messages=turns, tools=[tool], tool_choice=choice)
    (name,) = (entry["function"]["name"] for entry in body["tools"])
    assert len(name) <= 64 and name != LONG
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == name
    assert body["tool_choice"]["function"]["name"] == name
    other = sent(OPENAI, tools=[{**TOOL, "name": LONG + "x"}])["tools"][0]["function"]["name"]
    assert other != name
    assert sent(messages=turns, tools=[tool])["tools"][0]["function"]["name"] == LONG


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "additionalProperties": True}, False),
        ({**CLOSED, "properties": {"a": {"type": "object", "properties": {}}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": CLOSED}}}, True),
        ({**CLOSED, "properties": {"a": {"anyOf": [{"type": "null"}, {**CLOSED, "required": []}]}}}, False),
        ({**CLOSED, "$defs": {"x": {"type": "object"}}}, False),
    ],
)
def test_strict_is_asked_for_where_a_schema_qualifies(schema: dict[str, Any], strict: bool) -> None:
    body = sent(OPENAI, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert body["response_format"]["json_schema"].get("strict", False) is strict
    (tool,) = sent(OPENAI, tools=[{**TOOL, "input_schema": schema, "strict": True}])["tools"]
    assert tool["function"].get("strict", False) is strict


def test_examples_of_a_tools_input_reach_the_model() -> None:
    (tool,) = sent(tools=[{**TOOL, "input_examples": [{"p": "/etc"}]}])["tools"]
    assert tool["function"]["description"] == 'd\n\nExamples of its input:\n{"p":"/etc"}'
