"""The tools that an engine is tried with."""

from __future__ import annotations

import json
from pathlib import Path

from llmstack.paths import Home
from llmstack.upgrade.toolset import EXACT, HARD, LARGE_BYTES, large, own, remembered


def home(root: Path) -> Home:
    return Home(*(root / name for name in ("config", "state", "data", "cache"))).make()


def test_every_value_of_an_exact_call_is_the_only_one_that_its_schema_allows() -> None:
    for tool, values in EXACT:
        schema = tool["input_schema"]
        assert schema["required"] == list(values)
        assert {name: [value] for name, value in values.items()} == {
            name: given["enum"] for name, given in schema["properties"].items()
        }


def test_the_large_set_has_the_size_asked_for_and_holds_the_clients_tools() -> None:
    tools = large(own().tools)
    assert LARGE_BYTES <= len(json.dumps(tools)) < LARGE_BYTES * 1.1
    assert tools[: len(own().tools)] == own().tools
    assert len({tool["name"] for tool in tools}) == len(tools)


def test_the_hard_schemas_are_json_and_all_different() -> None:
    assert len({json.dumps(schema) for schema in HARD.values()}) == len(HARD)


def test_the_tools_of_the_last_request_are_taken_from_what_the_warm_start_remembers(tmp_path: Path) -> None:
    function = {"name": "Bash", "description": "Runs it.", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": {**function, "name": name}} for name in ("Bash", "Read")]
    body = {"messages": [{"role": "system", "content": "You are an agent."}], "tools": tools}
    folders = home(tmp_path)
    (folders.slots / "abc.prefix").write_text(json.dumps({"key": "abc", "body": body, "tokens": 9}))
    found = remembered(folders)
    assert found is not None
    assert [tool["name"] for tool in found.tools] == ["Bash", "Read"]
    assert found.tools[0]["input_schema"] == function["parameters"] and found.system == "You are an agent."


def test_a_remembered_request_that_is_torn_or_has_no_tools_counts_as_none(tmp_path: Path) -> None:
    folders = home(tmp_path)
    (folders.slots / "torn.prefix").write_bytes(b'{"key": "x", "body": {"messa')
    (folders.slots / "odd.prefix").write_text('{"key": "x", "body": {"messages": 3, "tools": "no"}}')
    (folders.slots / "bare.prefix").write_text('{"key": "x", "body": {"messages": []}}')
    assert remembered(folders) is None
