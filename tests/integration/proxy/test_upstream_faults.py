"""Bad upstreams: what the client is told, and that it can go on (faults 44 to 51)."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from support.proxy_stand import ProxyStand, ask, standing
from support.streams import DONE, delta, event, finish, text, tool
from support.upstream import Asked, Upstream, Wire, aside, say
from support.wait import eventually, free_port


def only(script: Any) -> Any:
    """The script for completions; all else as a llama-server answers it."""

    async def both(asked: Asked, wire: Wire) -> None:
        if asked.path == "/v1/chat/completions":
            await script(asked, wire)
        else:
            await aside(asked, wire)

    return both


def last(answer: Any) -> tuple[str, Any]:
    ends = [e for e in answer.events if e[0] in ("message_stop", "error")]
    assert len(ends) == 1 and answer.events[-1] == ends[0]
    return ends[0]


@pytest.mark.parametrize("streaming", [True, False])
def test_death_before_the_first_byte_is_a_529_with_retry_after(
    stand: ProxyStand, upstream: Upstream, streaming: bool
) -> None:
    """Fault 44."""

    async def die(asked: Asked, wire: Wire) -> None:
        wire.cut()

    upstream.script = only(die)
    answer = stand.post(ask(stream=streaming))
    assert answer.status == 529 and answer.json["error"]["type"] == "overloaded_error"
    assert int(answer.headers["retry-after"]) > 0 and answer.headers["request-id"].startswith("req_")


def test_nobody_there_is_a_529(tmp_path: Path) -> None:
    with standing(tmp_path / "h", free_port()) as stand:
        answer = stand.post(ask())
        assert answer.status == 529 and "retry-after" in answer.headers
        assert stand.get("/health").json["status"] == "degraded"


def test_nothing_deployed_says_llmstack_up(tmp_path: Path) -> None:
    with standing(tmp_path / "h") as stand:
        answer = stand.post(ask())
        assert answer.status == 529 and "llmstack up" in answer.json["error"]["message"]
        assert stand.post(ask(), "/v1/messages/count_tokens").status == 529


def test_death_in_the_stream_is_an_error_event(stand: ProxyStand, upstream: Upstream) -> None:
    """Fault 45."""

    async def die(asked: Asked, wire: Wire) -> None:
        await wire.begin()
        await wire.send(text("half an "))
        await asyncio.sleep(0.1)
        wire.cut()

    upstream.script = only(die)
    name, data = last(stand.post(ask()))
    assert name == "error" and data["error"]["type"] in ("api_error", "overloaded_error")
    answer = stand.post(ask(stream=False))
    assert answer.status in (500, 502, 529) and answer.json["type"] == "error"


def test_split_and_crlf_streams_are_put_together(stand: ProxyStand, upstream: Upstream) -> None:
    """Fault 46."""

    async def bytewise(asked: Asked, wire: Wire) -> None:
        data = say("漢字 é", "😀 \u2028 end").replace(b"\n", b"\r\n")
        await wire.begin()
        for start in range(0, len(data), 3):
            await wire.send(data[start : start + 3])
        await wire.end()

    upstream.script = only(bytewise)
    assert stand.post(ask()).said == "漢字 é😀 \u2028 end"
    assert stand.post(ask(stream=False)).json["content"][0]["text"] == "漢字 é😀 \u2028 end"


@pytest.mark.parametrize("junk", [b"data: {nope\n\n", b"data: 7\n\n", b'data: {"choices":"x"}\n\n'])
def test_a_malformed_stream_is_an_error(stand: ProxyStand, upstream: Upstream, junk: bytes) -> None:
    """Fault 46."""

    async def malformed(asked: Asked, wire: Wire) -> None:
        await wire.stream(text("a"), junk, finish() + DONE)

    upstream.script = only(malformed)
    assert last(stand.post(ask()))[0] == "error"
    assert stand.post(ask(stream=False)).status == 500


def test_a_page_instead_of_an_answer_is_an_error(stand: ProxyStand, upstream: Upstream) -> None:
    async def page(asked: Asked, wire: Wire) -> None:
        await wire.whole(b"<html>hello</html>", kind="text/html")

    upstream.script = only(page)
    answer = stand.post(ask())
    assert answer.status == 500 and answer.json["error"]["type"] == "api_error"


def test_endless_arguments_are_capped(stand: ProxyStand, upstream: Upstream) -> None:
    """Fault 47."""

    async def endless(asked: Asked, wire: Wire) -> None:
        await wire.begin()
        await wire.send(tool(0, "call_abcdefgh", "T", '{"x":"'))
        piece = delta(tool_calls=[{"index": 0, "function": {"arguments": "y" * 10_000}}])
        for _ in range(2000):
            await wire.send(piece)

    upstream.script = only(endless)
    name, data = last(stand.post(ask(tools=[{"name": "T", "input_schema": {"type": "object"}}])))
    assert name == "error" and "arguments" in data["error"]["message"]
    eventually(lambda: upstream.open <= 1)


def test_silence_is_filled_with_what_the_client_counts(tmp_path: Path, upstream: Upstream) -> None:
    """Fault 48: message_start, then deltas that stop nothing; nothing of it is left in the message."""
    models = f'[upstreams.local]\nkeepalive_s = 0.5\nbase_url = "{upstream.url}"\n'

    async def slow(asked: Asked, wire: Wire) -> None:
        await asyncio.sleep(2.5)
        await wire.stream(say("late"))

    upstream.script = only(slow)
    with standing(tmp_path / "h", models=models) as stand:
        answer = stand.post(ask())
    assert stand.requests()[-1]["ttft_ms"] >= 2400, "a keepalive is no first token"
    names = [name for name, _ in answer.events]
    assert names[0] == "message_start" and names[1] == "message_delta" and answer.said == "late"
    idle = [data for name, data in answer.events if name == "message_delta" and data["delta"]["stop_reason"] is None]
    assert 2 <= len(idle) <= 6
    assert last(answer)[0] == "message_stop"


def test_a_failure_after_keepalives_is_an_error_event(tmp_path: Path, upstream: Upstream) -> None:
    async def slow(asked: Asked, wire: Wire) -> None:
        await asyncio.sleep(1)
        wire.cut()

    upstream.script = only(slow)
    models = f'[upstreams.local]\nkeepalive_s = 0.3\nbase_url = "{upstream.url}"\n'
    with standing(tmp_path / "h", models=models) as stand:
        name, data = last(stand.post(ask()))
    assert name == "error" and data["error"]["type"] == "overloaded_error"


def test_a_loading_model_is_waited_for(stand: ProxyStand, upstream: Upstream) -> None:
    """Fault 49, when it is ready soon."""
    begun = time.monotonic()

    async def loading(asked: Asked, wire: Wire) -> None:
        if time.monotonic() - begun < 2:
            await wire.json({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503)
        else:
            await wire.stream(say("ready"))

    upstream.script = only(loading)
    assert stand.post(ask()).said == "ready"


def test_a_model_that_keeps_loading_is_a_529(stand: ProxyStand, upstream: Upstream) -> None:
    """Fault 49, when it is not."""

    async def loading(asked: Asked, wire: Wire) -> None:
        await wire.json({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503)

    upstream.script = only(loading)
    answer = stand.post(ask())
    assert answer.status == 529 and "loading" in answer.json["error"]["message"] and "retry-after" in answer.headers


@pytest.mark.parametrize("streaming", [True, False])
def test_a_prompt_over_the_context_is_counted_before_it_is_sent(
    stand: ProxyStand, upstream: Upstream, streaming: bool
) -> None:
    """Fault 50; omlx#26, jan#8108, ollama#17754."""
    answer = stand.post(ask("word " * 80_000, stream=streaming))
    message = answer.json["error"]["message"]
    assert answer.status == 400 and answer.json["error"]["type"] == "invalid_request_error"
    assert message.startswith("prompt is too long: ") and message.endswith(" tokens > 65536 maximum")
    assert int(message.split()[4]) > 65536
    assert not upstream.completions


def test_a_prompt_that_only_looks_long_is_counted_and_sent(stand: ProxyStand, upstream: Upstream) -> None:
    """More bytes than the context has tokens: only an exact count can tell, and it says it fits."""
    assert stand.post(ask("word " * 40_000)).said == "Hello"
    assert [a.path for a in upstream.asked] == ["/apply-template", "/tokenize", "/v1/chat/completions"]
    assert stand.post(ask("word " * 40_000)).said == "Hello"
    assert len(upstream.asked) == 4, "the second time the count is known"


def test_the_output_is_clamped_to_the_room_left(stand: ProxyStand, upstream: Upstream) -> None:
    stand.post(ask("word " * 51_000, max_tokens=32_000))
    sent = upstream.completions[0].json["max_tokens"]
    assert 0 < sent < 3000
    stand.post(ask("short", max_tokens=32_000))
    assert upstream.completions[1].json["max_tokens"] == 8192


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"code": 400, "message": "request (9001 tokens) exceeds the available context size (8192 tokens), try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 9001, "n_ctx": 8192}},  # noqa: E501
        {"error": {"message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.", "code": "context_length_exceeded"}},  # noqa: E501
        {"object": "error", "message": "The decoder prompt (length 9001) is longer than the maximum model length of 8192"},  # noqa: E501
        {"error": "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 9001>= n_ctx: 8192). Try to load the model with a larger context length, or provide a shorter input."},  # noqa: E501
        {"error": "Trying to keep the first 9001 tokens when context the overflows. However, the model is loaded with context length of only 8192 tokens, which is not enough."},  # noqa: E501
    ],
    ids=["llama-server", "OpenAI", "vLLM", "LM Studio", "older LM Studio"],
)  # fmt: skip
def test_an_upstream_s_own_overflow_gets_the_words_that_compact(
    stand: ProxyStand, upstream: Upstream, error: Any
) -> None:
    async def overflow(asked: Asked, wire: Wire) -> None:
        await wire.json(error, 400)

    upstream.script = only(overflow)
    answer = stand.post(ask())
    assert answer.status == 400
    assert answer.json["error"]["message"] == "prompt is too long: 9001 tokens > 8192 maximum"


@pytest.mark.parametrize(
    ("status", "expected", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (401, 401, "authentication_error"),
        (403, 403, "permission_error"),
        (404, 400, "invalid_request_error"),
        (413, 413, "request_too_large"),
        (422, 400, "invalid_request_error"),
        (429, 429, "rate_limit_error"),
        (500, 500, "api_error"),
        (502, 529, "overloaded_error"),
        (503, 529, "overloaded_error"),
        (504, 529, "overloaded_error"),
        (529, 529, "overloaded_error"),
    ],
)
def test_every_status_of_an_upstream_has_its_own(
    stand: ProxyStand, upstream: Upstream, status: int, expected: int, kind: str
) -> None:
    """MiMo#62: above all, never a 404, which reads as a model that does not exist."""

    async def refuse(asked: Asked, wire: Wire) -> None:
        await wire.json({"error": {"message": "because"}}, status, retry_after="7")

    upstream.script = only(refuse)
    answer = stand.post(ask())
    assert answer.status == expected and answer.json["error"]["type"] == kind
    assert "because" in answer.json["error"]["message"]
    assert answer.headers["retry-after"] == "7"


def test_a_parse_failure_upstream_is_tried_once_more(stand: ProxyStand, upstream: Upstream) -> None:
    async def stumble(asked: Asked, wire: Wire) -> None:
        if len(upstream.completions) == 1:
            await wire.json({"error": {"code": 500, "message": "The model produced output that does not match the expected peg-native format"}}, 500)  # fmt: skip  # noqa: E501
        else:
            await wire.stream(say("second"))

    upstream.script = only(stumble)
    assert stand.post(ask()).said == "second"
    assert len(upstream.completions) == 2


def test_a_parse_failure_after_text_is_not_tried_again(stand: ProxyStand, upstream: Upstream) -> None:
    async def stumble(asked: Asked, wire: Wire) -> None:
        await wire.stream(text("a"), event({"error": {"message": "output does not match the expected format"}}))

    upstream.script = only(stumble)
    assert last(stand.post(ask()))[0] == "error"
    assert len(upstream.completions) == 1


def test_an_identical_resend_joins_the_running_request(stand: ProxyStand, upstream: Upstream) -> None:
    """tale#3396."""

    async def slow(asked: Asked, wire: Wire) -> None:
        await asyncio.sleep(1.5)
        await wire.stream(say("once"))

    upstream.script = only(slow)
    first = stand.raw(stand.head(ask("again")))
    eventually(lambda: len(upstream.completions) == 1)
    first.close()
    time.sleep(0.5)
    assert stand.post(ask("again")).said == "once"
    assert len(upstream.completions) == 1 and upstream.completions[0].gone_at is None
    stand.post(ask("another"))
    assert len(upstream.completions) == 2


def test_another_session_s_equal_request_is_its_own(stand: ProxyStand, upstream: Upstream) -> None:
    import threading

    async def slow(asked: Asked, wire: Wire) -> None:
        await asyncio.sleep(0.5)
        await wire.stream(say("x"))

    upstream.script = only(slow)
    threads = [
        threading.Thread(target=lambda s=s: stand.post(ask("same"), x_claude_code_session_id=s))
        for s in ("a", "b", "a")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(upstream.completions) == 2


def test_sigterm_lets_a_stream_finish(tmp_path: Path, upstream: Upstream) -> None:
    """Fault 51."""

    async def slow(asked: Asked, wire: Wire) -> None:
        await wire.stream(*[text(str(n)) for n in range(10)], finish() + DONE, pause_s=0.2)

    upstream.script = only(slow)
    with standing(tmp_path / "h", upstream.port) as stand:
        live = stand.raw(stand.head(ask()))
        assert live.recv(20).startswith(b"HTTP/1.1 200")
        begun = time.monotonic()
        assert stand.process is not None
        stand.process.terminate()
        data = b""
        while b"message_stop" not in data:
            piece = live.recv(65536)
            assert piece, data
            data += piece
        live.close()
        stand.process.wait(10)
        assert time.monotonic() - begun < 10


def test_sigterm_ends_an_endless_stream_with_an_error_event(tmp_path: Path, upstream: Upstream) -> None:
    """Fault 51: at most thirty seconds. It waits about 25 s, so this is the one slow test of this file."""

    async def endless(asked: Asked, wire: Wire) -> None:
        await wire.begin()
        while not wire.writer.transport.is_closing():
            await wire.send(text("."))
            await asyncio.sleep(0.2)

    upstream.script = only(endless)
    with standing(tmp_path / "h", upstream.port) as stand:
        live = stand.raw(stand.head(ask()), timeout_s=35)
        assert live.recv(20).startswith(b"HTTP/1.1 200")
        begun = time.monotonic()
        assert stand.process is not None
        stand.process.terminate()
        data = b""
        while piece := live.recv(65536):
            data += piece
        live.close()
        stand.process.wait(32)
        assert time.monotonic() - begun < 30
    assert data.count(b"event: error") == 1 and b"overloaded_error" in data and b"message_stop" not in data


def test_health_tells_the_states_apart(tmp_path: Path, upstream: Upstream) -> None:
    state = {"status": 200}

    async def health(asked: Asked, wire: Wire) -> None:
        await wire.json({"status": "x"}, state["status"])

    upstream.script = health
    with standing(tmp_path / "h", upstream.port) as stand:
        first = stand.get("/health", token=None).json
        assert (first["status"], first["upstreams"]) == ("ok", {"local": "ok"})
        state["status"] = 503
        assert stand.get("/health", token=None).json["status"] == "starting"
        stand.deploy(free_port())
        eventually(lambda: stand.get("/health", token=None).json["status"] == "degraded")
        assert json.loads(stand.get("/health").data)["upstreams"]["local"] == "down"
