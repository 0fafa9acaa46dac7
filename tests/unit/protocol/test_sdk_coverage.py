"""docs/api-coverage.md has a row for everything in the official SDKs' types, and blocks and tools do what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from anthropic.types import beta
from anthropic.types.beta.message_create_params import MessageCreateParamsBase
from openai.types.responses.response_input_param import ResponseInputItemParam
from openai.types.responses.tool_param import ToolParam

from llmstack.protocol.errors import Refused
from support.paths import DOCS
from unit.protocol.test_request_translation import assistant, messages, said, sent, used, user

PAGE = (DOCS / "api-coverage.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """Outcome by name, of one section."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found: dict[str, str] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in re.findall(r"`([^`]+)`|^(any other)$", cells[0]) if len(cells) > 1 else ():
            found[name[0] or name[1]] = cells[1]
    return found


def tags(kind: Any) -> Iterator[str]:
    """The `type` of each member of a union."""
    if get_origin(kind) is Union:
        for part in get_args(kind):
            yield from tags(part)
    elif isinstance(kind, type):
        model = getattr(kind, "model_fields", None)
        literal = model["type"].annotation if model is not None else get_type_hints(kind).get("type")
        yield from re.findall(r"'([a-z0-9_]+)'", str(literal))
    elif get_args(kind):
        yield from tags(get_args(kind)[0])


def test_blocks() -> None:
    assert set(tags(beta.BetaContentBlockParam)) == set(rows("Content blocks of a Messages request"))


def test_tools() -> None:
    assert set(tags(beta.BetaToolUnionParam)) == set(rows("Tools of a Messages request"))


def test_fields() -> None:
    assert set(get_type_hints(MessageCreateParamsBase)) - {
        "temperature",
        "top_p",
        "top_k",
        "stream",
    } == set(rows("Fields of a Messages request"))


def test_stop_reasons_and_events() -> None:
    assert set(get_args(beta.BetaStopReason)) == set(rows("Stop reasons"))
    union = get_args(beta.BetaRawMessageStreamEvent)[0]
    assert set(tags(union)) == set(rows("Events of a Messages stream"))


def test_items_and_tools_of_responses() -> None:
    items, tools = rows("Input items of a Responses request"), rows("Tools of a Responses request")
    assert set(items) - {"any other"} <= set(tags(ResponseInputItemParam)) and "any other" in items
    assert set(tools) - {"any other"} <= set(tags(ToolParam)) and "any other" in tools


WORD = "the-word-in-it"
EXAMPLES: dict[str, dict[str, Any]] = {
    "document": {"source": {"type": "text", "media_type": "text/plain", "data": WORD}},
    "search_result": {"source": WORD, "title": "t", "content": []},
    "server_tool_use": {"id": "x", "name": WORD, "input": {}},
    "mcp_tool_use": {"id": "x", "name": WORD, "server_name": "s", "input": {}},
    "mcp_tool_listing": {"mcp_server_name": WORD, "tools": []},
    "container_upload": {"file_id": "f"},
    "compaction": {"content": WORD},
}


@pytest.mark.parametrize(
    "kind", sorted(k for k, v in rows("Content blocks of a Messages request").items() if v == "told")
)
def test_what_is_told_reaches_the_model(kind: str) -> None:
    block = {"type": kind, **EXAMPLES.get(kind, {"tool_use_id": "x", "content": {"type": "y", "text": WORD}})}
    turn = user(block) if kind in ("document", "search_result") else assistant(block, said("so"))
    shown = str(messages(user("q"), turn, user("go")))
    assert WORD in shown or (kind == "container_upload" and "no access" in shown)


@pytest.mark.parametrize(
    "kind", sorted(k for k, v in rows("Content blocks of a Messages request").items() if v == "free")
)
def test_what_needs_no_effect_is_no_error(kind: str) -> None:
    block = {"type": kind, "data": "x", "from": {"model": "a"}, "to": {"model": "b"}}
    assert messages(user("q"), assistant(block, said("so")), user("go"))[1]["content"] == "so"


@pytest.mark.parametrize(("kind", "outcome"), rows("Tools of a Messages request").items())
def test_each_tool_has_its_outcome(kind: str, outcome: str) -> None:
    tool = {"type": kind, "name": "it", **({"input_schema": {"type": "object"}} if kind == "custom" else {})}
    if outcome == "refused":
        with pytest.raises(Refused, match=kind):
            sent(tools=[tool])
        return
    offered = [entry["function"] for entry in sent(tools=[tool]).get("tools", [])]
    assert [function["name"] for function in offered] == (["it"] if outcome == "translated" else [])
    assert kind == "custom" or all(function["parameters"]["properties"] for function in offered)


def test_a_block_of_no_known_type_is_refused_by_its_place() -> None:
    with pytest.raises(Refused, match=r"messages\[1\].content\[0\].type: 'hologram'"):
        messages(user("q"), assistant({"type": "hologram"}, used()), user("go"))
