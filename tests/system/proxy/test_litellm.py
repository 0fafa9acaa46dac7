"""Real LiteLLM as an upstream, by OpenAI's protocol and by Anthropic's."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support.claude_turns import call, turn
from support.litellm import KEY, running
from support.proxy_stand import ProxyStand, ask, standing
from support.upstream import Asked, Upstream, Wire, say

pytestmark = pytest.mark.timeout(1800)  # the first one installs LiteLLM

TOOL = {
    "name": "Read",
    "description": "Reads a file",
    "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
}


async def whole_or_streamed(asked: Asked, wire: Wire) -> None:
    """LiteLLM asks with and without `stream`; the answer depends on whether a tool result is there."""
    messages = asked.json["messages"]
    tools = asked.json.get("tools")
    wants_tool = tools and not any(m["role"] == "tool" for m in messages)
    if asked.json.get("stream"):
        await wire.stream(
            turn(call("Read", '{"path":"/a"}', call_id="call_lite_1")) if wants_tool else say("lite ", "answer")
        )
        return
    message: dict[str, object] = {"role": "assistant", "content": None if wants_tool else "lite answer"}
    if wants_tool:
        function = {"name": "Read", "arguments": '{"path":"/a"}'}
        message["tool_calls"] = [{"id": "call_lite_1", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if wants_tool else "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    await wire.json(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": usage}
    )


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, module_upstream: Upstream) -> Iterator[ProxyStand]:
    """A proxy with LiteLLM behind it, twice: `open-*` by OpenAI's protocol, `anth-*` by Anthropic's."""
    root = tmp_path_factory.mktemp("litellm")
    with running(root / "lite", module_upstream.url) as url:
        key = root / "litellm.key"
        key.write_text(KEY)
        key.chmod(0o600)
        models = "".join(
            f'[upstreams.{kind}]\nkind = "{kind}"\nbase_url = "{url}"\napi_key_file = "{key}"\n[[routes]]\nmatch = "{kind[:4]}-*"\nupstream = "{kind}"\n'  # noqa: E501
            for kind in ("openai", "anthropic")
        )
        with standing(root / "stand", models=models) as stand:
            yield stand


@pytest.fixture(autouse=True)
def script(upstream: Upstream) -> None:
    upstream.script = whole_or_streamed


@pytest.mark.parametrize("model", ["open-x", "anth-x"])
@pytest.mark.parametrize("streaming", [True, False])
def test_text(behind: ProxyStand, model: str, streaming: bool) -> None:
    answer = behind.post(ask(model=model, stream=streaming), timeout_s=60)
    assert answer.status == 200, answer.data
    assert answer.headers["x-llmstack-upstream"] == ("openai" if model == "open-x" else "anthropic")
    if streaming:
        assert answer.said == "lite answer"
        assert [name for name, _ in answer.events].count("message_stop") == 1
    else:
        assert "".join(b.get("text", "") for b in answer.json["content"]) == "lite answer"


@pytest.mark.parametrize("model", ["open-x", "anth-x"])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_tool_and_its_result(behind: ProxyStand, upstream: Upstream, model: str, streaming: bool) -> None:
    answer = behind.post(ask(model=model, stream=streaming, tools=[TOOL]), timeout_s=60)
    assert answer.status == 200, answer.data
    if streaming:
        blocks = [e["content_block"] for name, e in answer.events if name == "content_block_start"]
        use = next(b for b in blocks if b["type"] == "tool_use")
        pieces = [e["delta"].get("partial_json", "") for name, e in answer.events if name == "content_block_delta"]
        assert json.loads("".join(pieces)) == {"path": "/a"}
        stop = next(e for name, e in answer.events if name == "message_delta" and e["delta"].get("stop_reason"))
        assert stop["delta"]["stop_reason"] == "tool_use"
    else:
        use = next(b for b in answer.json["content"] if b["type"] == "tool_use")
        assert use["input"] == {"path": "/a"} and answer.json["stop_reason"] == "tool_use"
    history = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": use["id"], "name": "Read", "input": {"path": "/a"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use["id"], "content": "forty-two"}]},
    ]
    second = behind.post({**ask(model=model, stream=streaming, tools=[TOOL]), "messages": history}, timeout_s=60)
    assert second.status == 200 and b"lite" in second.data
    assert "forty-two" in json.dumps(upstream.completions[-1].json["messages"])
