"""Which upstream answers, and that everybody can see which one it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic as Sdk
from openai import OpenAI

from support.proxy_stand import TOKEN, ProxyStand, ask, standing
from support.streams import DONE, finish, text, usage
from support.upstream import Anthropic, Asked, Upstream, Wire, aside, hello, say
from support.wait import eventually, free_port


@pytest.fixture
def cloud() -> Iterator[Upstream]:
    server = Upstream(Anthropic.hello)
    yield server
    server.close()


@pytest.fixture
def other() -> Iterator[Upstream]:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.stream(say("from the other"))

    server = Upstream(script)
    yield server
    server.close()


def key_file(tmp_path: Path, key: str = "the-cloud-key") -> Path:
    path = tmp_path / "key"
    path.write_text(key + "\n")
    path.chmod(0o600)
    return path


def test_an_anthropic_upstream_gets_and_gives_every_byte(tmp_path: Path, upstream: Upstream, cloud: Upstream) -> None:
    models = (
        f'[upstreams.cloud]\nkind = "anthropic"\nbase_url = "{cloud.url}"\napi_key_file = "{key_file(tmp_path)}"\n'
        '[[routes]]\nmatch = "claude-*"\nupstream = "cloud"\n'
    )
    body = (
        b'{ "model":"claude-x", "stream":true,\n "messages":[{"role":"user","content":"\\u00e9 \xc3\xa9"}], "zzz":1.0 }'
    )
    with standing(tmp_path / "h", upstream.port, models=models) as stand:
        answer = stand.post(body, "/v1/messages?beta=true", anthropic_beta="some-beta", x_app="cli")
        assert answer.data == Anthropic.BODY
        assert answer.headers["request-id"] == "req_cloud" and answer.headers["x-llmstack-upstream"] == "cloud"
        assert stand.post(ask()).said == "Hello", "other names still go to the local server"
    asked = cloud.completions[0]
    assert asked.body == body and asked.path == "/v1/messages?beta=true"
    assert asked.headers["x-api-key"] == "the-cloud-key" and asked.headers["anthropic-beta"] == "some-beta"
    assert TOKEN not in json.dumps(asked.headers)


def test_the_environment_s_http_proxy_is_the_way_to_upstreams_elsewhere_and_never_to_this_machine(
    tmp_path: Path, upstream: Upstream, other: Upstream
) -> None:
    """`other` stands for the company's HTTP proxy: it is asked for an address that nobody here could look up."""
    models = (
        '[upstreams.far]\nkind = "openai"\nbase_url = "http://models.far.example/v1"\n'
        '[[routes]]\nmatch = "far"\nupstream = "far"\n'
    )
    stand = ProxyStand(tmp_path / "h", upstream.port, models=models)
    stand.start(HTTP_PROXY=other.url, http_proxy=other.url)
    try:
        assert stand.post(ask(model="far")).said == "from the other"
        assert stand.post(ask(model="local")).said == "Hello"
    finally:
        stand.stop()
    [asked] = other.asked
    assert asked.path == "http://models.far.example/v1/chat/completions"
    assert asked.headers["host"] == "models.far.example"


def test_an_anthropic_upstream_s_error_is_passed_on(tmp_path: Path, upstream: Upstream, cloud: Upstream) -> None:
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}

    async def limited(asked: Asked, wire: Wire) -> None:
        await wire.json(error, 429, retry_after="33")

    cloud.script = limited
    models = f'[upstreams.cloud]\nkind = "anthropic"\nbase_url = "{cloud.url}"\n[[routes]]\nmatch = "*"\nupstream = "cloud"\n'  # noqa: E501
    with standing(tmp_path / "h", upstream.port, models=models) as stand:
        answer = stand.post(ask())
    assert (answer.status, answer.json, answer.headers["retry-after"]) == (429, error, "33")


def test_an_anthropic_stream_that_is_cut_ends_in_an_error_event(
    tmp_path: Path, upstream: Upstream, cloud: Upstream
) -> None:
    async def cut(asked: Asked, wire: Wire) -> None:
        await wire.begin()
        await wire.send(Anthropic.BODY[:400])
        await asyncio.sleep(0.1)
        wire.cut()

    cloud.script = cut
    models = f'[upstreams.cloud]\nkind = "anthropic"\nbase_url = "{cloud.url}"\n[[routes]]\nmatch = "*"\nupstream = "cloud"\n'  # noqa: E501
    with standing(tmp_path / "h", upstream.port, models=models) as stand:
        answer = stand.post(ask())
    whole_events = Anthropic.BODY[: Anthropic.BODY.rindex(b"\n\n", 0, 400) + 2]
    assert answer.data.startswith(whole_events + b"\n\nevent: error"), "no half of an event"
    assert answer.data.count(b"event: error") == 1


def test_a_route_overrides_its_upstream(tmp_path: Path, upstream: Upstream, other: Upstream) -> None:
    models = f"""
[upstreams.host]
kind = "openai"
base_url = "{other.url}/v1"
extra_headers = {{ "x-team" = "a", "x-keep" = "1" }}
extra_body = {{ seed = 7 }}

[[routes]]
match = "qwen-*"
upstream = "host"
model = "Qwen/Qwen3-Coder"
extra_headers = {{ "x-team" = "b" }}
extra_body = {{ provider = {{ order = ["x"] }} }}
max_output = 50
"""
    with standing(tmp_path / "h", upstream.port, models=models) as stand:
        answer = stand.post(ask(model="qwen-big", top_k=5))
    assert answer.said == "from the other" and answer.headers["x-llmstack-upstream"] == "host"
    asked = other.completions[0]
    assert (asked.headers["x-team"], asked.headers["x-keep"]) == ("b", "1")
    sent = asked.json
    assert sent["model"] == "Qwen/Qwen3-Coder" and sent["seed"] == 7 and sent["provider"] == {"order": ["x"]}
    assert sent["max_tokens"] == 50 and "top_k" not in sent and "cache_prompt" not in sent


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_fallback_is_taken_when_asked_for_and_says_so(
    tmp_path: Path, other: Upstream, cloud: Upstream, kind: str
) -> None:
    url = other.url if kind == "openai" else cloud.url
    models = (
        f'[upstreams.spare]\nkind = "{kind}"\nbase_url = "{url}"\n'
        '[[routes]]\nmatch = "*"\nupstream = "local"\nfallback = ["spare"]\n'
    )
    with standing(tmp_path / "h", free_port(), models=models) as stand:
        answer = stand.post(ask())
        assert answer.said == ("from the other" if kind == "openai" else "from the cloud é")
        assert answer.headers["x-llmstack-upstream"] == "spare"
        eventually(lambda: any(line["event"] == "fallback" for line in stand.log))
        eventually(lambda: stand.requests() and stand.requests()[-1].get("upstream") == "spare")
        if kind == "openai":
            assert answer.headers["x-llmstack-fallback"] == "local->spare: unreachable"


def test_a_prompt_that_outgrows_the_local_context_goes_to_the_cloud(
    tmp_path: Path, upstream: Upstream, other: Upstream
) -> None:
    models = (
        f'[upstreams.spare]\nkind = "openai"\nbase_url = "{other.url}"\n'
        '[[routes]]\nmatch = "*"\nupstream = "local"\nfallback = ["spare"]\nfallback_on = ["overflow"]\n'
    )
    with standing(tmp_path / "h", upstream.port, models=models) as stand:
        assert stand.post(ask("short")).said == "Hello"
        answer = stand.post(ask("word " * 80_000))
        assert answer.said == "from the other" and "overflow" in answer.headers["x-llmstack-fallback"]


def test_without_a_fallback_nothing_leaves_the_machine(tmp_path: Path, other: Upstream) -> None:
    models = f'[upstreams.spare]\nkind = "openai"\nbase_url = "{other.url}"\n'
    with standing(tmp_path / "h", free_port(), models=models) as stand:
        assert stand.post(ask()).status == 529
    assert not other.asked


def test_routes_are_reloaded_and_a_bad_file_keeps_the_old_ones(
    tmp_path: Path, upstream: Upstream, other: Upstream
) -> None:
    good = f'[upstreams.host]\nkind = "openai"\nbase_url = "{other.url}"\n[[routes]]\nmatch = "x"\nupstream = "host"\n'
    with standing(tmp_path / "h", upstream.port) as stand:
        assert stand.post(ask(model="x")).said == "Hello"
        stand.write_models(good)
        eventually(lambda: stand.post(ask(model="x")).said == "from the other")
        stand.write_models(good.replace("kind", "knid"))
        eventually(lambda: "knid" in stand.get("/health").json.get("problem", ""))
        assert stand.post(ask(model="x")).said == "from the other"
        assert any("knid" in str(line.get("why")) for line in stand.log)
        stand.write_models("")
        eventually(lambda: stand.post(ask(model="x")).said == "Hello")


def test_a_new_token_is_taken_while_it_runs(tmp_path: Path, upstream: Upstream) -> None:
    with standing(tmp_path / "h", upstream.port) as stand:
        new = stand.token_path.with_suffix(".new")
        new.write_text("another-token")
        new.chmod(0o600)
        new.replace(stand.token_path)
        assert stand.post(ask(), token="another-token").said == "Hello"
        assert stand.post(ask()).status == 401


def test_a_key_in_a_file_is_read_again_when_it_changes(tmp_path: Path, upstream: Upstream, other: Upstream) -> None:
    path = key_file(tmp_path, "first")
    models = (
        f'[upstreams.host]\nkind = "openai"\nbase_url = "{other.url}"\napi_key_file = "{path}"\n'
        '[[routes]]\nmatch = "*"\nupstream = "host"\n'
    )
    with standing(tmp_path / "h", upstream.port, models=models) as stand:
        stand.post(ask("a"))
        key_file(tmp_path, "second-key")
        stand.post(ask("b"))
        path.chmod(0o644)
        key_file(tmp_path, "third-key-readable")
        path.chmod(0o644)
        path.touch()
        assert stand.post(ask("c")).status == 403
    assert [a.headers["authorization"] for a in other.completions] == ["Bearer first", "Bearer second-key"]


def test_a_field_an_upstream_does_not_know_is_left_out_from_then_on(
    tmp_path: Path, upstream: Upstream, other: Upstream
) -> None:
    async def strict(asked: Asked, wire: Wire) -> None:
        for name in ("stream_options", "reasoning_effort"):
            if name in asked.json:
                await wire.json({"error": {"message": f"Unsupported parameter: '{name}' is not supported"}}, 400)
                return
        await wire.stream(say("strict"))

    other.script = strict
    models = (
        f'[upstreams.host]\nkind = "openai"\nbase_url = "{other.url}"\n[[routes]]\nmatch = "*"\nupstream = "host"\n'
    )
    extra = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}
    with standing(tmp_path / "h", upstream.port, models=models) as stand:
        assert stand.post(ask(**extra)).said == "strict"
        assert len(other.completions) == 3
        assert stand.post(ask("again", **extra)).said == "strict"
        assert len(other.completions) == 4


def test_an_upstream_that_answers_whole_is_streamed_to_the_client(
    tmp_path: Path, upstream: Upstream, other: Upstream
) -> None:
    async def whole(asked: Asked, wire: Wire) -> None:
        assert asked.json["stream"] is False
        message = {"role": "assistant", "content": "in one piece"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await wire.json({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 3}})

    other.script = whole
    models = (
        f'[upstreams.host]\nkind = "openai"\nbase_url = "{other.url}"\nstream = false\n'
        '[[routes]]\nmatch = "*"\nupstream = "host"\n'
    )
    with standing(tmp_path / "h", upstream.port, models=models) as stand:
        assert stand.post(ask()).said == "in one piece"
        assert stand.post(ask(stream=False)).json["usage"]["output_tokens"] == 3


# ---- lists, counts, figures, and OpenAI's clients ---------------------------------------------------------------------  # noqa: E501


def test_models_are_listed_for_both_kinds_of_client(tmp_path: Path, upstream: Upstream) -> None:
    models = '[[routes]]\nmatch = "claude-local"\nupstream = "local"\ndisplay_name = "My model"\n'
    with standing(tmp_path / "h", upstream.port, models=models) as stand:
        listed = stand.get("/v1/models?limit=1000").json
        assert [m["id"] for m in listed["data"]] == ["demo-model", "claude-local"]
        mine = listed["data"][1]
        assert mine["type"] == "model" and mine["display_name"] == "My model"
        assert mine["max_input_tokens"] == 65536 and mine["max_tokens"] == 8192
        assert listed["has_more"] is False and listed["first_id"] == "demo-model"
        sdk = Sdk(api_key=TOKEN, base_url=stand.url)
        assert [m.id for m in sdk.models.list()] == ["demo-model", "claude-local"]
        assert sdk.models.retrieve("claude-local").display_name == "My model"
        client = OpenAI(api_key=TOKEN, base_url=f"{stand.url}/v1")
        assert [m.id for m in client.models.list()] == ["demo-model", "claude-local"]


def test_tokens_are_counted_exactly(stand: ProxyStand, upstream: Upstream) -> None:
    sdk = Sdk(api_key=TOKEN, base_url=stand.url)
    counted = sdk.messages.count_tokens(model="m", messages=[{"role": "user", "content": "x" * 400}])
    template = json.dumps({"messages": [{"role": "user", "content": "x" * 400}]})
    assert counted.input_tokens == len(json.dumps(json.loads(template))) // 4
    assert [a.path for a in upstream.asked] == ["/apply-template", "/tokenize"]


def test_the_anthropic_sdk_streams_and_asks(stand: ProxyStand) -> None:
    sdk = Sdk(api_key=TOKEN, base_url=stand.url)
    message = sdk.messages.create(model="m", max_tokens=10, messages=[{"role": "user", "content": "hi"}])
    assert message.content[0].text == "Hello" and message.usage.output_tokens == 2
    with sdk.messages.stream(model="m", max_tokens=10, messages=[{"role": "user", "content": "hi"}]) as stream:
        assert "".join(stream.text_stream) == "Hello"


def test_the_openai_sdk_streams_and_asks(tmp_path: Path, upstream: Upstream) -> None:
    async def both(asked: Asked, wire: Wire) -> None:
        if not asked.json.get("logprobs"):
            await wire.stream(text("Hel", "lo") + finish() + usage(3, 2) + DONE)
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": "as it is"}, "finish_reason": "stop"}
        await wire.json({"id": "c", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice]})

    upstream.script = both
    with standing(tmp_path / "h", upstream.port) as stand:
        client = OpenAI(api_key=TOKEN, base_url=f"{stand.url}/v1", max_retries=0)
        asked = [{"role": "user", "content": "hi"}]
        whole = client.chat.completions.create(model="m", messages=asked)
        assert whole.choices[0].message.content == "Hello" and whole.usage.total_tokens == 5
        assert whole._request_id.startswith("req_")
        exact = client.chat.completions.create(model="m", messages=asked, logprobs=True)
        assert exact.choices[0].message.content == "as it is"
        pieces = client.chat.completions.create(model="m", messages=asked, stream=True)
        assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == "Hello"

        async def refuse(asked: Asked, wire: Wire) -> None:
            await wire.json({"error": {"message": "no such field"}}, 400)

        upstream.script = refuse
        with pytest.raises(Exception, match="no such field"):
            client.chat.completions.create(model="m", messages=asked)


def test_the_openai_sdk_works_with_an_anthropic_upstream(tmp_path: Path, cloud: Upstream) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "/a"}}

    async def both(asked: Asked, wire: Wire) -> None:
        if asked.json.get("stream"):
            await Anthropic.hello(asked, wire)
            return
        usage = {"input_tokens": 5, "cache_read_input_tokens": 20, "output_tokens": 3}
        await wire.json(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "content": [use],
                "stop_reason": "tool_use",
                "usage": usage,
            }
        )

    cloud.script = both
    models = f'[upstreams.cloud]\nkind = "anthropic"\nbase_url = "{cloud.url}"\n'
    models += '[[routes]]\nmatch = "*"\nupstream = "cloud"\n'
    function = {"name": "Read", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}
    turns: list[Any] = [
        {"role": "system", "content": "S"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "Read", "arguments": '{"path":"/b"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
    ]
    with standing(tmp_path / "h", models=models) as stand:
        client = OpenAI(api_key=TOKEN, base_url=f"{stand.url}/v1", max_retries=0)
        whole = client.chat.completions.create(
            model="claude-x",
            messages=turns,
            tools=[{"type": "function", "function": function}],
            tool_choice="required",
            stop="X",
        )
        pieces = list(
            client.chat.completions.create(
                model="claude-x", messages=turns, stream=True, stream_options={"include_usage": True}
            )
        )
    call = whole.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("Read", {"path": "/a"})
    assert whole.choices[0].finish_reason == "tool_calls" and whole.usage.prompt_tokens == 25
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == "from the cloud é"
    assert pieces[-1].usage.completion_tokens == 4
    sent = cloud.completions[0].json
    assert cloud.completions[0].path == "/v1/messages" and "anthropic-version" in cloud.completions[0].headers
    assert sent["system"] == "S" and sent["tool_choice"] == {"type": "any"} and sent["stop_sequences"] == ["X"]
    assert [m["role"] for m in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][0]["content"][1]["source"]["data"] == "aGk="
    (result,) = sent["messages"][2]["content"]
    assert result == {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "found"}]}
    assert sent["tools"][0]["input_schema"] == function["parameters"]


def test_the_openai_path_cancels_upstream_too(stand: ProxyStand, upstream: Upstream) -> None:
    async def silent(asked: Asked, wire: Wire) -> None:
        await wire.until_gone()

    upstream.script = silent
    connection = stand.raw(stand.head(ask(), "/v1/chat/completions"))
    eventually(lambda: len(upstream.completions) == 1)
    connection.close()
    eventually(lambda: upstream.completions[0].gone_at is not None, within_s=5)


def test_metrics_count_and_one_line_is_written_per_request(stand: ProxyStand, upstream: Upstream) -> None:
    async def cached(asked: Asked, wire: Wire) -> None:
        if asked.path == "/v1/chat/completions":
            await wire.stream(text("a") + finish() + usage(100, 7, 60) + DONE)
        else:
            await aside(asked, wire)

    upstream.script = cached
    before = len(stand.requests())
    stand.post(ask(), x_claude_code_session_id="session-1")
    eventually(lambda: len(stand.requests()) == before + 1)
    line = stand.requests()[-1]
    assert (line["tokens_in"], line["tokens_cached"], line["tokens_out"]) == (100, 60, 7)
    assert line["session"] == "session-1" and line["stop_reason"] == "end_turn" and line["ttft_ms"] > 0
    for number in range(60):
        stand.post(ask(model=f"made-up-{number}"), token="wrong")
        stand.post(ask(model=f"made-up-{number}"))
    shown = stand.get("/metrics").data.decode()
    assert "llmstack_connections 0.0" not in shown, "the one that asks for metrics is open"
    assert "llmstack_connections " in shown
    assert 'llmstack_tokens_total{kind="cached",upstream="local"}' in shown
    assert 'model="other"' in shown and "made-up-59" not in shown
    assert "llmstack_ttft_seconds_bucket" in shown and "llmstack_upstream_up" in shown
    assert TOKEN not in shown


def test_what_is_deployed_can_change_while_it_runs(tmp_path: Path, upstream: Upstream) -> None:
    with standing(tmp_path / "h") as stand:
        assert stand.post(ask()).status == 529
        stand.deploy(upstream.port)
        assert stand.post(ask()).said == "Hello"
        assert upstream.script is hello
