"""A llama-server that makes no grammar of a tool's schema: the tool is opened, named, and the question asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.proxy_stand import ask, standing
from support.upstream import Asked, Upstream, Wire, hello

GOOD = {"name": "good", "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
ODD = {
    "name": "odd",
    "input_schema": {"type": "object", "properties": {"a": {"type": "string", "description": "said", "minLength": 3}}},
}


def is_odd(body: dict[str, Any]) -> bool:
    return any("minLength" in str(tool) for tool in body.get("tools", []))


async def engine(asked: Asked, wire: Wire) -> None:
    """It knows nothing of minLength."""
    if asked.path in ("/v1/chat/completions", "/apply-template") and is_odd(asked.json):
        error = {"code": 400, "type": "invalid_request_error", "message": "JSON schema error at #/properties/a: no"}
        await wire.json({"error": error}, 400)
    else:
        await hello(asked, wire)


def test_the_tool_is_opened_once_and_the_others_stay(tmp_path: Path) -> None:
    upstream = Upstream(engine)
    try:
        with standing(tmp_path / "h", upstream.port) as stand:
            answers = [stand.post(ask(f"hi {turn}", tools=[GOOD, ODD])) for turn in range(2)]
            opened = [line for line in stand.log if line["event"] == "opened"]
    finally:
        upstream.close()
    assert [answer.said for answer in answers] == ["Hello", "Hello"]
    assert [line["tools"] for line in opened] == [["odd"]]
    asked = [each.json for each in upstream.completions]
    assert [is_odd(body) for body in asked] == [True, False, False]
    good, odd = (tool["function"]["parameters"] for tool in asked[-1]["tools"])
    assert good == GOOD["input_schema"]
    assert odd["properties"] == {"a": {"description": "said"}}


def test_a_refusal_that_stays_is_told(tmp_path: Path) -> None:
    async def never(asked: Asked, wire: Wire) -> None:
        if asked.path == "/v1/chat/completions":
            await wire.json({"error": {"code": 400, "message": "failed to parse grammar"}}, 400)
        else:
            await hello(asked, wire)

    upstream = Upstream(never)
    try:
        with standing(tmp_path / "h", upstream.port) as stand:
            answer = stand.post(ask(tools=[GOOD]))
    finally:
        upstream.close()
    assert answer.status == 400 and "failed to parse grammar" in answer.data.decode()
    assert len(upstream.completions) == 2
