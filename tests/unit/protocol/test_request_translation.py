"""A Messages request becomes one body, the same each time."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from llmstack.protocol.dialect import TURNS
from llmstack.protocol.errors import Refused
from llmstack.protocol.replay import Generated, Replay
from llmstack.protocol.request import Dialect, Translator, decode

LOCAL = Dialect()
OPENAI = Dialect(llama_server=False, thinking="effort")
TEXT_ONLY = Dialect(images="placeholder")
TOOL = {"name": "Read", "description": "d", "input_schema": {"type": "object", "properties": {"p": {"type": "string"}}}}
PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}


def sent(dialect: Dialect = LOCAL, replay: Replay | None = None, **fields: Any) -> Any:
    request = {"model": "m", "max_tokens": 9, **fields}
    request.setdefault("messages", [{"role": "user", "content": "hi"}])
    chat = Translator(replay).to_chat(decode(json.dumps(request).encode()), dialect)
    return json.loads(msgspec.json.encode(chat.body))


def messages(*turns: Any, dialect: Dialect = LOCAL, replay: Replay | None = None, **fields: Any) -> list[Any]:
    found: list[Any] = sent(dialect, replay, messages=list(turns), **fields)["messages"]
    return found


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content) if not isinstance(content[0], str) else content[0]}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content) if not isinstance(content[0], str) else content[0]}


def said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def used(call_id: str = "t1", name: str = "Read", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def result(call_id: str = "t1", content: Any = "ok", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


# ---- system ---------------------------------------------------------------------------------------------------


def test_a_system_array_becomes_one_message_apart_by_blank_lines() -> None:
    found = messages(user("hi"), system=[said("one"), {**said("two"), "cache_control": {"type": "ephemeral"}}])
    assert found[0] == {"role": "system", "content": "one\n\ntwo"}


@pytest.mark.parametrize(
    "first",
    [
        "x-anthropic-billing-header: cc_version=2.1.197.abc; cc_entrypoint=cli;",
        "x-anthropic-billing-header: cc_version=2.1.197.abc; cc_entrypoint=sdk-cli; cch=00f12;",
        "x-anthropic-billing-header: cc_version=2.1.197.abc; cc_entrypoint=cli;\n\n",
    ],
)
def test_llama_cpp_21793_the_rotating_billing_block_is_stripped(first: str) -> None:
    assert messages(user("hi"), system=[said(first), said("You help.")])[0]["content"] == "You help."
    assert messages(user("hi"), system=first + "You help.")[0]["content"] == "You help."


def test_anthropics_claude_code_77698_inline_system_is_folded_into_the_user_text_before_it() -> None:
    found = messages(user("hi"), system("<note>x</note>"), assistant("yes"), user("go on"))
    assert [m["role"] for m in found] == ["user", "assistant", "user"]
    assert found[0]["content"] == "hi\n\n<note>x</note>"


def test_vllm_53393_and_ollama_18431_an_inline_system_message_is_never_hoisted() -> None:
    before = messages(user("hi"), assistant("yes"), user("more"), system="S")
    after = messages(user("hi"), assistant("yes"), user("more"), system("late"), system="S")
    assert after[:-1] == before[:-1]
    assert after[-1]["content"].startswith(before[-1]["content"])
    assert "<system-reminder>\nlate\n</system-reminder>" in after[-1]["content"]


def test_a_system_message_after_tool_results_joins_the_last_one() -> None:
    found = messages(user("hi"), assistant(used()), user(result()), system("nudge"))
    assert found[-1]["role"] == "tool" and found[-1]["content"].startswith("ok\n\n") and "nudge" in found[-1]["content"]


def test_no_message_stands_between_a_call_and_its_result() -> None:
    found = messages(user("hi"), assistant(used()), system("between"), user(result()))
    assert [m["role"] for m in found] == ["user", "assistant", "tool"]
    assert "between" in found[-1]["content"]


# ---- tools in the conversation ------------------------------------------------------------------------------------


def test_tool_messages_come_first_in_the_order_of_the_calls_then_the_text() -> None:
    found = messages(
        user("hi"),
        assistant(said("doing"), used("a"), used("b")),
        user(said("and this"), result("b", "B"), result("a", "A")),
    )
    assert [(m["role"], m["content"]) for m in found[2:]] == [("tool", "A"), ("tool", "B"), ("user", "and this")]
    assert [m["tool_call_id"] for m in found[2:4]] == ["a", "b"]


def test_arguments_keep_key_order_and_unescaped_unicode() -> None:
    found = messages(user("hi"), assistant(used(z="é", a="漢", m={"y": 1, "b": 2})), user(result()))
    assert found[1]["tool_calls"][0]["function"]["arguments"] == '{"z":"é","a":"漢","m":{"y":1,"b":2}}'


def test_what_the_model_wrote_is_put_back_by_id() -> None:
    replay = Replay()
    replay.remember("t1", Generated("up9", '{"b" : 1,  "a":"\\u00e9"}'))
    found = messages(user("hi"), assistant(used(a="é", b=1)), user(result()), replay=replay)
    assert found[1]["tool_calls"][0]["function"]["arguments"] == '{"b" : 1,  "a":"\\u00e9"}'
    assert found[1]["tool_calls"][0]["id"] == found[2]["tool_call_id"] == "up9"


def test_arguments_that_are_no_object_are_never_put_back() -> None:
    replay = Replay()
    for broken in ('{"a":', "[1]", "", '"x"'):
        replay.remember("t1", Generated("", broken))
    assert replay.get("t1") is None


def test_an_error_is_told_as_text() -> None:
    assert (
        messages(user("x"), assistant(used()), user(result(content="boom", is_error=True)))[2]["content"]
        == "[tool error] boom"
    )
    assert messages(user("x"), assistant(used()), user(result(content="fine", is_error=False)))[2]["content"] == "fine"


def test_a_result_may_be_a_list_or_nothing() -> None:
    turns = user("x"), assistant(used())
    assert messages(*turns, user(result(content=[said("a"), said("b")])))[2]["content"] == "a\nb"
    assert messages(*turns, user(result(content=None)))[2]["content"] == ""
    assert messages(*turns, user(result(content=[])))[2]["content"] == ""


def test_a_call_without_a_result_says_so() -> None:
    found = messages(user("x"), assistant(used("a"), used("b")), user(result("b")))
    assert "interrupted" in found[2]["content"] and found[3]["content"] == "ok"


def test_a_result_without_a_call_is_text() -> None:
    found = messages(user("x"), assistant("y"), user(result("ghost", "boo")))
    assert found[-1]["role"] == "user" and "boo" in found[-1]["content"]


def test_an_image_in_a_result_follows_it_as_a_user_message() -> None:
    found = messages(user("x"), assistant(used()), user(result(content=[said("see"), PIXEL])))
    assert found[2]["content"] == "see\n[image: see the next message]"
    assert found[3] == {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}],
    }


def test_a_tool_reference_names_its_tool_and_loads_it() -> None:
    deferred = {**TOOL, "name": "Deep", "defer_loading": True}
    turns = user("x"), assistant(used(name="ToolSearch"))
    before = sent(OPENAI, messages=[*turns, user(result())], tools=[TOOL, deferred])
    after = sent(
        OPENAI,
        messages=[*turns, user(result(content=[{"type": "tool_reference", "tool_name": "Deep"}]))],
        tools=[TOOL, deferred],
    )
    assert [t["function"]["name"] for t in before["tools"]] == ["Read"]
    assert [t["function"]["name"] for t in after["tools"]] == ["Read", "Deep"]
    assert "Deep" in after["messages"][2]["content"]


# ---- other blocks -----------------------------------------------------------------------------------------------


def test_opencode_19081_thinking_is_replayed_signed_or_not() -> None:
    for signature in ("", "abc"):
        thought = {"type": "thinking", "thinking": "hm", "signature": signature}
        assert messages(user("x"), assistant(thought, said("y")))[1] == {
            "role": "assistant", "content": "y", "reasoning_content": "hm"
        }  # fmt: skip


def test_empty_and_redacted_thinking_leaves_nothing() -> None:
    blocks = {"type": "thinking", "thinking": "", "signature": ""}, {"type": "redacted_thinking", "data": "x"}
    assert messages(user("x"), assistant(*blocks, said("y")))[1] == {"role": "assistant", "content": "y"}


def test_images_by_data_and_by_url() -> None:
    url = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    parts = messages(user(said("look"), PIXEL, url))[0]["content"]
    assert [p["type"] for p in parts] == ["text", "image_url", "image_url"]
    assert parts[2]["image_url"]["url"] == "https://x/y.png"


def test_text_only_blocks_are_a_plain_string() -> None:
    assert messages(user(said("a"), said("b")))[0]["content"] == "a\n\nb"


def test_mimo_62_an_image_for_a_text_model_is_named_or_refused_and_never_poisons_later_turns() -> None:
    assert "text only" in messages(user(said("look"), PIXEL), dialect=TEXT_ONLY)[0]["content"]
    refusing = Dialect(images="refuse")
    with pytest.raises(Refused, match="text only"):
        messages(user(said("look"), PIXEL), dialect=refusing)
    assert "text only" in messages(user(PIXEL), assistant("no"), user("go on"), dialect=refusing)[0]["content"]


def test_documents_are_read() -> None:
    plain = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    assert messages(user(plain))[0]["content"] == '<document title="T">\nwords\n</document>'
    blocks = {"type": "document", "source": {"type": "content", "content": [said("inner")]}}
    assert "inner" in messages(user(blocks))[0]["content"]


def test_two_turns_of_one_role_become_one() -> None:
    found = messages(user("a"), user("b"), assistant("c"), assistant(said("d"), used()), user(result()))
    assert [m["role"] for m in found] == ["user", "assistant", "tool"]
    assert found[0]["content"] == "a\n\nb" and found[1]["content"] == "c\n\nd"


THINKS = {"type": "adaptive"}


@pytest.mark.parametrize(
    ("fields", "turn"),
    [
        ({"messages": [user("q")], "tools": [TOOL]}, "question"),
        ({"messages": [user("q"), assistant(used()), user(result())], "tools": [TOOL]}, "tools"),
        ({"messages": [user("q"), assistant(used()), user(result()), system("note")], "tools": [TOOL]}, "tools"),
        ({"messages": [user("q"), assistant(used()), user(result(), said("and?"))], "tools": [TOOL]}, "question"),
        ({"messages": [user("a title, please")]}, "side"),
    ],
)
def test_thinking_has_a_bound_by_the_kind_of_turn(fields: Any, turn: str) -> None:
    bounded = Dialect(thinking_budget={turn: 512})
    assert sent(bounded, thinking=THINKS, **fields)["thinking_budget_tokens"] == 512
    assert sent(bounded, thinking={"type": "enabled", "budget_tokens": 64}, **fields)["thinking_budget_tokens"] == 64
    assert "thinking_budget_tokens" not in sent(bounded, thinking={"type": "disabled"}, **fields)
    others = Dialect(thinking_budget={other: 512 for other in TURNS if other != turn})
    assert "thinking_budget_tokens" not in sent(others, thinking=THINKS, **fields)
    without = sent(Dialect(thinking_budget={turn: 0}), thinking=THINKS, **fields)
    assert without["chat_template_kwargs"] == {"enable_thinking": False} and "thinking_budget_tokens" not in without


def test_a_bound_of_thinking_becomes_an_effort_where_that_is_what_an_upstream_knows() -> None:
    for tokens, effort in ((512, "low"), (8192, "medium"), (20_000, "high")):
        dialect = Dialect(llama_server=False, thinking="effort", thinking_budget={"side": tokens})
        assert sent(dialect, thinking=THINKS, output_config={"effort": "max"})["reasoning_effort"] == effort


# ---- tools and choices --------------------------------------------------------------------------------------------


def test_tools_become_functions_with_their_whole_schema() -> None:
    schema = {"type": "object", "$schema": "x", "properties": {"a": {"anyOf": [{"const": 1}, {"type": "null"}]}}, "propertyNames": {"pattern": "^a$"}}  # fmt: skip  # noqa: E501
    found = sent(tools=[{"name": "T", "description": "d", "input_schema": schema, "cache_control": {}}])
    assert found["tools"] == [{"type": "function", "function": {"name": "T", "description": "d", "parameters": schema}}]


@pytest.mark.parametrize(
    ("choice", "local", "openai"),
    [
        ({"type": "auto"}, "auto", "auto"),
        ({"type": "any"}, "required", "required"),
        ({"type": "none"}, "none", "none"),
        ({"type": "tool", "name": "B"}, "none", {"type": "function", "function": {"name": "B"}}),
    ],
)
def test_tool_choice(choice: Any, local: Any, openai: Any) -> None:
    tools = [TOOL, {**TOOL, "name": "B"}]
    here, there = sent(LOCAL, tools=tools, tool_choice=choice), sent(OPENAI, tools=tools, tool_choice=choice)
    assert here["tool_choice"] == local and there["tool_choice"] == openai
    assert len(here["tools"]) == len(there["tools"]) == 2


def test_a_call_by_name_is_forced_by_its_schema_where_a_grammar_is_made_of_it() -> None:
    """Nothing can come before it then, and the tools in the prompt stay those of every other turn."""
    choice = {"type": "tool", "name": "Read"}
    here = sent(LOCAL, tools=[TOOL], tool_choice=choice)
    assert here["response_format"]["json_schema"]["schema"] == TOOL["input_schema"]
    assert here["tools"] == sent(LOCAL, tools=[TOOL])["tools"]
    assert "response_format" not in sent(OPENAI, tools=[TOOL], tool_choice=choice)
    assert "response_format" not in sent(LOCAL, tools=[TOOL], tool_choice={"type": "any"})


def test_a_forced_schema_is_an_object_that_a_grammar_can_take() -> None:
    tool = {"name": "T", "input_schema": {"properties": {"a": {"type": "string", "pattern": "(a+)+$"}}}}
    here = sent(LOCAL, tools=[tool], tool_choice={"type": "tool", "name": "T"})
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert here["response_format"]["json_schema"]["schema"] == schema


def test_one_call_at_a_time_can_be_asked_for() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert sent(tools=[TOOL], tool_choice=choice)["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in sent(tools=[TOOL])


def test_a_choice_of_no_tool_is_refused() -> None:
    with pytest.raises(Refused, match="none of the tools"):
        sent(tools=[TOOL], tool_choice={"type": "tool", "name": "Nope"})


def test_server_tools_never_become_empty_functions() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    found = sent(
        Dialect(server_tools="drop"), tools=[TOOL, search, {"type": "web_fetch_20250910", "name": "web_fetch"}]
    )
    assert [t["function"]["name"] for t in found["tools"]] == ["Read"]
    assert "tools" not in sent(Dialect(server_tools="drop"), tools=[search])
    with pytest.raises(Refused, match="web_search"):
        sent(Dialect(server_tools="refuse"), tools=[TOOL, search])


def test_tools_the_client_runs_get_the_schema_their_models_know_by_heart() -> None:
    found = sent(tools=[{"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728", "name": "editor"}])
    assert [t["function"]["name"] for t in found["tools"]] == ["bash", "editor"]
    assert "command" in found["tools"][0]["function"]["parameters"]["properties"]
    assert "old_str" in found["tools"][1]["function"]["parameters"]["properties"]


def test_llama_cpp_25308_26600_and_27619_hostile_schemas_are_bounded_for_a_grammar() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        deep = {"type": "object", "properties": {"x": deep}}
    wild = {"type": "string", "pattern": "^(a+)+$"}
    huge = {"type": "array", "minItems": 100000, "items": {"type": "string", "maxLength": 10**9}}
    schema = {
        "type": "object",
        "properties": {"d": deep, "w": wild, "h": huge, "ok": {"type": "string", "pattern": "^[a-z]$"}},
    }
    shown = sent(tools=[{"name": "T", "input_schema": schema}])["tools"][0]["function"]["parameters"]["properties"]
    assert json.dumps(shown).count('"x"') < 30
    assert "pattern" not in shown["w"] and "minItems" not in shown["h"] and "maxLength" not in shown["h"]["items"]
    assert shown["ok"]["pattern"] == "^[a-z]$"
    untouched = sent(OPENAI, tools=[{"name": "T", "input_schema": schema}])["tools"][0]["function"]["parameters"]
    assert untouched == schema


# ---- settings of the answer -----------------------------------------------------------------------------------------


def test_sampling_and_stop_words() -> None:
    found = sent(temperature=0.5, top_p=0.9, top_k=40, stop_sequences=["END"])
    assert (found["temperature"], found["top_p"], found["top_k"], found["stop"]) == (0.5, 0.9, 40, ["END"])
    assert "top_k" not in sent(OPENAI, top_k=40)
    assert sent(Dialect(llama_server=False, fields=frozenset({"top_k"})), top_k=40)["top_k"] == 40


@pytest.mark.parametrize(
    ("fields", "local", "openai"),
    [
        ({}, (None, None), None),
        ({"thinking": {"type": "disabled"}}, (False, None), None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, (True, None), "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, (True, None), "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, (True, "medium"), "medium"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, (True, "high"), "high"),
        ({"output_config": {"effort": "high"}}, (False, None), None),
    ],
)
def test_thinking(fields: Any, local: tuple[bool | None, str | None], openai: str | None) -> None:
    here, there = sent(LOCAL, **fields), sent(OPENAI, **fields)
    assert here.get("chat_template_kwargs", {}).get("enable_thinking") is local[0]
    assert here.get("reasoning_effort") == local[1]
    assert there.get("reasoning_effort") == openai and "chat_template_kwargs" not in there


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_an_output_format_becomes_a_response_format(where: str) -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object", "properties": {"title": {"type": "string"}}}}
    found = sent(**({"output_config": {"format": wanted}} if where == "output_config" else {"output_format": wanted}))
    assert found["response_format"]["json_schema"]["schema"] == wanted["schema"]


def test_only_known_fields_go_upstream() -> None:
    found = sent(
        OPENAI,
        metadata={"user_id": "secret"},
        context_management={},
        container="c",
        service_tier="auto",
        mcp_servers=[],
    )
    assert set(found) == {"messages", "stream", "stream_options"}


def test_the_same_request_gives_the_same_bytes() -> None:
    request = decode(
        json.dumps(
            {"model": "m", "messages": [user("hi"), assistant(used(b=1, a=2)), user(result())], "tools": [TOOL]}
        ).encode()
    )
    translator = Translator()
    first = msgspec.json.encode(translator.to_chat(request, LOCAL).body)
    assert first == msgspec.json.encode(translator.to_chat(request, LOCAL).body)
    assert first == msgspec.json.encode(Translator().to_chat(request, LOCAL).body)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages\\[0\\].role"),
        ({"messages": [{"role": "user", "content": [{"type": "sparkle"}]}]}, "sparkle"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]}, "source"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages\\[0\\].content"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "x"}], "tool_choice": {"type": "some"}}, "tool_choice"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(body: dict[str, Any], named: str) -> None:
    with pytest.raises(Refused, match=named):
        Translator().to_chat(decode(json.dumps({"model": "m", **body}).encode()), LOCAL)
