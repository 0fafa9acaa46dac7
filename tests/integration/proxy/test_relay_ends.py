"""What is passed on from an Anthropic upstream or to a chat client: one end, no half of an event, and no secret."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from support.proxy_stand import Answer, ProxyStand, ask, standing
from support.upstream import Asked, Upstream, Wire

KEY = "sk-a-key-of-the-upstream"
MODELS = """
[upstreams.claude]
kind = "anthropic"
base_url = "http://127.0.0.1:{port}"
api_key_file = "key"
[upstreams.open]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
api_key_file = "key"
[upstreams.behind]
kind = "anthropic"
base_url = "http://127.0.0.1:{port}"
[[routes]]
match = "claude"
upstream = "claude"
[[routes]]
match = "open"
upstream = "open"
[[routes]]
match = "*"
upstream = "local"
"""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, module_upstream: Upstream) -> Iterator[ProxyStand]:
    root = tmp_path_factory.mktemp("ends") / "home"
    (root / "config").mkdir(parents=True)
    (root / "config" / "key").write_text(KEY + "\n")
    (root / "config" / "key").chmod(0o600)
    models = MODELS.replace("{port}", str(module_upstream.port))
    with standing(root, module_upstream.port, models=models) as running:
        yield running


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


START = event("message_start", message={"id": "msg_1", "role": "assistant", "content": [], "usage": {}})
TEXT = event("content_block_start", index=0, content_block={"type": "text", "text": ""}) + event(
    "content_block_delta", index=0, delta={"type": "text_delta", "text": "an error of message_stop"}
)
STOP = event("content_block_stop", index=0) + event("message_delta", delta={"stop_reason": "end_turn"}, usage={})
END = event("message_stop")


def asked_for(stand: ProxyStand, upstream: Upstream, *pieces: bytes, cut: bool, path: str, **fields: Any) -> Answer:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.begin()
        for piece in pieces:
            await wire.send(piece)
        wire.cut() if cut else await wire.end()

    upstream.script = script
    return stand.post(ask(**fields), path)


def ends(answer: Answer) -> list[str]:
    return [name for name, _ in answer.events if name in ("message_stop", "error")]


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "closed"])
@pytest.mark.parametrize("size", [7, 1 << 20], ids=["in pieces", "whole"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(
    ("sent", "end"),
    [
        (START + TEXT + STOP + END, "message_stop"),
        (START + TEXT + STOP + END + b": a comment\n\n", "message_stop"),
        (START + TEXT + STOP + END + END + TEXT, "message_stop"),
        (START + TEXT + STOP + END + b"event: ping\ndata: {", "message_stop"),
        (START + TEXT + STOP, "error"),
        (START + TEXT + b'event: content_block_delta\ndata: {"type":"content_bl', "error"),
        (START + event("error", error={"type": "overloaded_error", "message": "no"}) + END, "error"),
        (b"", "error"),
    ],
)
def test_a_relayed_stream_has_one_end_and_no_half_of_an_event(
    sent: bytes, end: str, line_end: bytes, size: int, cut: bool, stand: ProxyStand, upstream: Upstream
) -> None:
    data = sent.replace(b"\n", line_end)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    answer = asked_for(stand, upstream, *pieces, cut=cut, path="/v1/messages", model="claude")
    answer.data = answer.data.replace(b"\r\n", b"\n")
    assert ends(answer) == [end]
    for part in filter(None, answer.data.split(b"\n\n")):
        line = next((line for line in part.split(b"\n") if line.startswith(b"data:")), b"data: {}")
        json.loads(line[5:])
    if end == "message_stop":
        assert answer.data == START + TEXT + STOP + END, "byte for byte up to its end"


@pytest.mark.parametrize(
    "wrong",
    [
        b"data: [1]\n\n",
        event("message_start", message=[1]),
        event("content_block_start", index=0, content_block=None),
        event("content_block_delta", index=0, delta="x"),
        event("message_delta", delta=[], usage=3),
        event("error", error="x"),
        b"data: {}\n\n" + b"data: " + b"[" * 5000 + b"\n\n",
    ],
)
def test_an_event_of_a_wrong_shape_is_an_error_on_the_chat_path(
    wrong: bytes, stand: ProxyStand, upstream: Upstream
) -> None:
    answer = asked_for(stand, upstream, START, wrong, cut=False, path="/v1/chat/completions", model="claude")
    last = answer.data.strip().split(b"\n\n")[-1]
    assert answer.status == 200 and b'"error"' in last and b"[DONE]" not in answer.data


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "tool_calls": ["x"]},
        {"role": "assistant", "tool_calls": 3},
        {"role": "assistant", "tool_calls": [{"function": "x"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 3}}]},
    ],
)
def test_a_request_of_a_wrong_shape_is_a_400_on_the_chat_path(
    message: dict[str, Any], stand: ProxyStand, upstream: Upstream
) -> None:
    answer = stand.post({**ask(model="claude"), "messages": [message]}, "/v1/chat/completions")
    assert answer.status == 400, answer.data
    assert stand.post({**ask(model="claude"), "messages": 3}, "/v1/chat/completions").status == 400
    assert stand.post({**ask(model="claude"), "tools": [{"function": 3}]}, "/v1/chat/completions").status == 400


def test_a_completion_that_is_cut_ends_in_an_error_and_one_without_done_is_whole(
    stand: ProxyStand, upstream: Upstream
) -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    path, done = "/v1/chat/completions", b"data: [DONE]\n\n"
    whole = asked_for(stand, upstream, chunk + last, cut=False, path=path, model="open")
    assert b'"content":"x"' in whole.data and whole.data.endswith(done)
    cut = asked_for(stand, upstream, chunk + b'data: {"choi', cut=True, path=path, model="open")
    assert b"choi\n" not in cut.data and cut.data.count(b'"error"') == 1 and done not in cut.data
    twice = asked_for(stand, upstream, chunk + last + done + chunk, cut=False, path=path, model="open")
    assert twice.data.count(b'"content":"x"') == 1 and twice.data.count(done) == 1


def test_a_completion_that_goes_as_it_is_and_is_cut_ends_in_an_error_and_one_without_done_is_whole(
    stand: ProxyStand, upstream: Upstream
) -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    exact: dict[str, Any] = {"path": "/v1/chat/completions", "model": "open", "logprobs": True}
    whole = asked_for(stand, upstream, chunk + last, cut=False, **exact)
    assert whole.data == chunk + last
    cut = asked_for(stand, upstream, chunk + b'data: {"choi', cut=True, **exact)
    assert cut.data.startswith(chunk) and b"choi" not in cut.data[len(chunk) :] and cut.data.count(b'"error"') == 1
    twice = asked_for(stand, upstream, chunk + last + b"data: [DONE]\n\n" + chunk, cut=False, **exact)
    assert twice.data == chunk + last + b"data: [DONE]\n\n"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize("model", ["claude", "open", "local"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_by_nobody(
    status: int, model: str, path: str, stand: ProxyStand, upstream: Upstream
) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.whole(b"", status, location=f"http://user:{KEY}@foreign.example/v1/messages")

    upstream.script = script
    answer = stand.post(ask(model=model), path)
    assert answer.status == 502 and "location" not in answer.headers
    message = answer.json["error"]["message"]
    assert "foreign.example" in message and KEY not in message and "base_url" in message


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize("model", ["claude", "open"])
@pytest.mark.parametrize("status", [200, 400, 401, 429, 500, 529])
def test_an_error_that_quotes_the_key_reaches_nobody(
    status: int, model: str, path: str, stand: ProxyStand, upstream: Upstream
) -> None:
    error = {"type": "error", "error": {"type": "authentication_error", "message": f"bad key {KEY} for you"}}

    async def script(asked: Asked, wire: Wire) -> None:
        if status != 200:
            await wire.json(error, status, www_authenticate=f"Bearer {KEY}")
        elif model == "claude":
            await wire.stream(START, event("error", **{key: value for key, value in error.items() if key != "type"}))
        else:
            await wire.stream(b"data: " + json.dumps(error).encode() + b"\n\n")

    upstream.script = script
    answer = stand.post(ask(model=model), path)
    shown = answer.data + json.dumps(answer.headers).encode()
    assert KEY.encode() not in shown and b"bad key" in answer.data
    assert KEY not in stand.log_path.read_text()


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize("model", ["claude", "open", "local"])
def test_a_reset_before_the_first_byte_is_a_529_with_retry_after(
    model: str, path: str, stand: ProxyStand, upstream: Upstream
) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.cut()

    upstream.script = script
    answer = stand.post(ask(model=model), path)
    assert answer.status == 529 and answer.headers["retry-after"], answer.data
