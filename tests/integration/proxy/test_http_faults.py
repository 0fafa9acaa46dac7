"""Bad clients: each gets its answer, and nobody else notices (faults 32 to 43)."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.proxy_stand import TOKEN, ProxyStand, ask, standing
from support.streams import DONE, finish, text
from support.upstream import Asked, Upstream, Wire, aside
from support.wait import eventually


def test_a_token_that_others_can_read_refuses_to_start(tmp_path: Path) -> None:
    """Fault 32."""
    stand = ProxyStand(tmp_path)
    stand.token_path.chmod(0o644)
    ran = _serve(stand)
    assert ran.returncode == 2
    assert "can be read by other users" in ran.stderr and "chmod 600" in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_token_of_another_user_refuses_to_start(tmp_path: Path) -> None:
    """Fault 32."""
    stand = ProxyStand(tmp_path)
    os.chown(stand.token_path, 65534, 65534)
    ran = _serve(stand)
    assert ran.returncode == 2 and "another user" in ran.stderr


def test_a_token_behind_a_link_refuses_to_start(tmp_path: Path) -> None:
    stand = ProxyStand(tmp_path)
    stand.token_path.rename(tmp_path / "elsewhere")
    stand.token_path.symlink_to(tmp_path / "elsewhere")
    assert _serve(stand).returncode == 2


def test_without_a_token_it_says_what_to_run(tmp_path: Path) -> None:
    stand = ProxyStand(tmp_path)
    stand.token_path.unlink()
    ran = _serve(stand)
    assert ran.returncode == 3 and "llmstack up" in ran.stderr


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    stand = ProxyStand(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", stand.port))
        other.listen()
        ran = _serve(stand)
    assert ran.returncode == 3 and str(stand.port) in ran.stderr


def _serve(stand: ProxyStand) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmstack", "serve-proxy", "--port", str(stand.port)],
        env=os.environ | {"LLMSTACK_HOME": str(stand.root)},
        capture_output=True,
        text=True,
        timeout=20,
    )


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.com", 403),
        ("evil.com:5000", 403),
        ("127.0.0.1.evil.com", 403),
        ("10.0.0.7", 403),
        ("127.0.0.1/x", 400),
        ("127.0.0.1?x", 400),
        ("127.0.0.1#x", 400),
        ("user@127.0.0.1", 400),
        ("127.0.0.1:99999999", 400),
        ("localhost", 200),
        ("[::1]:5000", 200),
        ("127.0.0.1", 200),
    ],
)
def test_only_a_host_of_this_machine_is_answered(stand: ProxyStand, host: str, status: int) -> None:
    """Fault 33."""
    answer = stand.get("/v1/models", host=host)
    assert answer.status == status
    if status != 200:
        assert answer.json["type"] == "error"


@pytest.mark.parametrize("origin", ["http://evil.com", "null", "http://localhost:3000", "https://127.0.0.1.evil.com"])
def test_a_foreign_origin_is_refused(stand: ProxyStand, origin: str) -> None:
    """Fault 34."""
    answer = stand.post(ask(), origin=origin)
    assert answer.status == 403 and answer.json["error"]["type"] == "permission_error"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("headers", [{}, {"x_api_key": "no"}, {"authorization": "Bearer no"}, {"authorization": TOKEN}])
def test_a_wrong_token_is_an_anthropic_401(stand: ProxyStand, headers: dict[str, str]) -> None:
    """Fault 35."""
    answer = stand.post(ask(), token=None, **headers)
    assert answer.status == 401
    assert answer.json["error"]["type"] == "authentication_error"
    assert answer.json["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize("headers", [{"x_api_key": TOKEN}, {"authorization": f"Bearer {TOKEN}"}])
def test_the_token_is_taken_in_either_header(stand: ProxyStand, headers: dict[str, str]) -> None:
    assert stand.post(ask(), token=None, **headers).said == "Hello"


def test_the_token_is_never_in_the_log(stand: ProxyStand) -> None:
    stand.post(ask("a secret prompt"))
    stand.post(ask("a secret prompt"), token="wrong-token")
    eventually(lambda: len(stand.requests()) == 2)
    log = stand.log_path.read_text()
    assert TOKEN not in log and "wrong-token" not in log and "secret" not in log


def test_a_body_of_fifty_megabytes_is_refused_while_it_comes(stand: ProxyStand) -> None:
    """Fault 36."""
    before = stand.usage().memory_info().rss
    with stand.raw() as connection:
        head = (
            f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {TOKEN}\r\ncontent-length: 52428800\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert stand.usage().memory_info().rss - before < 8 * 2**20
    assert stand.post(ask()).said == "Hello"


def test_a_chunked_body_past_the_cap_is_refused(stand: ProxyStand) -> None:
    """Fault 37."""
    before = stand.usage().memory_info().rss
    head = f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {TOKEN}\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    answer = b""
    with stand.raw(head.encode()) as connection:
        for _ in range(40):
            connection.settimeout(5)
            try:
                connection.sendall(chunk)
            except OSError:  # it takes no more, or has cut the rest: what it answered before is there to read
                break
            with contextlib.suppress(TimeoutError):
                connection.settimeout(0.001)
                answer += connection.recv(1000)
            if answer:
                break
        if not answer:
            connection.settimeout(5)
            answer = connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 413")
    eventually(lambda: stand.usage().memory_info().rss - before < 80 * 2**20)


def test_endless_nesting_is_a_400(stand: ProxyStand) -> None:
    """Fault 38."""
    for body in (b"[" * 100_000, b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"):
        answer = stand.post(body)
        assert answer.status == 400 and answer.json["error"]["type"] == "invalid_request_error"
    shallow = {"type": "string"}
    for _ in range(400):
        shallow = {"anyOf": [shallow]}
    tools = [{"name": "T", "input_schema": {"type": "object", "properties": {"x": shallow}}}]
    assert stand.post(ask(tools=tools)).status in (200, 400)
    nested = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    assert stand.post(b'{"model":"m","x":' + nested + b',"messages":[]}').status == 400


@pytest.mark.parametrize(
    "value",
    [b'"\xff"', b'"\\ud800"', b"NaN", b"Infinity", b"1" * 5000, b"-" + b"9" * 5000, b"{", b"tru"],
    ids=[
        "invalid UTF-8",
        "lone surrogate",
        "NaN",
        "Infinity",
        "5000 digits",
        "minus 5000 digits",
        "cut",
        "half a word",
    ],
)
def test_what_is_no_json_is_a_400(stand: ProxyStand, value: bytes) -> None:
    """Fault 39, in a field that is read and in one that is not."""
    for field in (b"model", b"zzz"):
        body = b'{"messages":[{"role":"user","content":"x"}],"model":"m","' + field + b'":' + value + b"}"
        answer = stand.post(body)
        assert answer.status == 400 and answer.json["error"]["type"] == "invalid_request_error"


def test_a_wrong_field_is_named(stand: ProxyStand) -> None:
    answer = stand.post({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]})
    assert answer.status == 400 and "messages[0].content[0].text" in answer.json["error"]["message"]


def test_a_silent_socket_is_closed_in_ten_seconds(stand: ProxyStand) -> None:
    """Fault 40: nothing, half a request line, half a header."""
    begun = time.monotonic()
    halves = [b"", b"POST /v1/mess", b"POST /v1/messages HTTP/1.1\r\nhost: 127"]
    connections = [stand.raw(half) for half in halves]
    for connection in connections:
        with connection, contextlib.suppress(ConnectionError):
            assert connection.recv(100) == b""
        assert 5 < time.monotonic() - begun < 12


def test_idle_connections_are_capped_and_a_live_stream_goes_on(stand: ProxyStand, upstream: Upstream) -> None:
    """Fault 41."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))

    async def slowly(asked: Asked, wire: Wire) -> None:
        if asked.path != "/v1/chat/completions":
            await aside(asked, wire)
            return
        await wire.stream(*[text(str(n)) for n in range(10)], finish() + DONE, pause_s=0.4)

    upstream.script = slowly
    idle: list[socket.socket] = []
    try:
        with stand.raw(stand.head(ask())) as live:
            assert live.recv(50).startswith(b"HTTP/1.1 200")
            for _ in range(10_000):
                idle.append(stand.raw())
            descriptors = stand.usage().num_fds()
            assert descriptors < 1200
            data = b""
            while b"0\r\n\r\n" not in data:
                data += live.recv(65536)
            assert data.count(b"text_delta") >= 9 and b"message_stop" in data
        assert stand.get("/health").status == 200
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_reader_that_reads_nothing_slows_the_upstream_and_memory_stays_bounded(
    stand: ProxyStand, upstream: Upstream
) -> None:
    """Fault 42, first half; the cut after a minute is in test_server.py."""
    sent = 0

    async def flood(asked: Asked, wire: Wire) -> None:
        nonlocal sent
        if asked.path != "/v1/chat/completions":
            await aside(asked, wire)
            return
        await wire.begin()
        piece = text("x" * 1000) * 100
        for _ in range(500):
            await wire.send(piece)
            sent += len(piece)
        await wire.send(finish() + DONE)
        await wire.end()

    upstream.script = flood
    before = stand.usage().memory_info().rss
    with stand.raw(stand.head(ask())) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        time.sleep(3)
        stopped_at = sent
        time.sleep(1)
        assert sent == stopped_at < 20 * 2**20
        assert stand.usage().memory_info().rss - before < 40 * 2**20
        assert stand.get("/health").status == 200
    eventually(lambda: upstream.open <= 1, within_s=20)


def test_an_endless_answer_does_not_fill_the_memory(stand: ProxyStand, upstream: Upstream) -> None:
    async def long(asked: Asked, wire: Wire) -> None:
        if asked.path != "/v1/chat/completions":
            await aside(asked, wire)
            return
        piece = text("x" * 10_000) * 50
        await wire.stream(*[piece] * 160, finish() + DONE)

    upstream.script = long
    before = stand.usage().memory_info().rss
    answer = stand.post(ask(), timeout_s=60)
    assert len(answer.data) > 80_000_000 and answer.data.count(b"message_stop") == 2
    assert stand.usage().memory_info().rss - before < 45 * 2**20


@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_gone_in_prefill_frees_the_upstream(stand: ProxyStand, upstream: Upstream, streaming: bool) -> None:
    """Fault 43; llama.cpp#24496 and #29163."""

    async def silent(asked: Asked, wire: Wire) -> None:
        if asked.path != "/v1/chat/completions":
            await aside(asked, wire)
        else:
            await wire.until_gone()

    upstream.script = silent
    connection = stand.raw(stand.head(ask(stream=streaming)))
    eventually(lambda: len(upstream.completions) == 1)
    gone = time.monotonic()
    connection.close()
    eventually(lambda: upstream.completions[0].gone_at is not None, within_s=8)
    assert (upstream.completions[0].gone_at or 0) - gone < 5


def test_anything_else_is_a_404_in_the_same_shape(stand: ProxyStand) -> None:
    answer = stand.get("/v1/nothing")
    assert answer.status == 404 and answer.json["error"]["type"] == "not_found_error"
    assert stand.get("/v1/messages").status == 405


def test_the_client_s_first_look_and_its_telemetry_are_answered(stand: ProxyStand) -> None:
    assert stand.request("HEAD", "/", token=None).status == 200
    assert stand.post({"events": []}, "/api/event_logging/batch").status == 200
    assert stand.post(ask(), "/v1/messages?beta=true", anthropic_beta="what-2030-01-01").said == "Hello"


def test_a_debug_capture_is_private_and_redacted(tmp_path: Path, upstream: Upstream) -> None:
    with standing(tmp_path / "h", upstream.port, "--debug") as stand:
        stand.post(ask("look here"))
        folder = stand.root / "state" / "debug"
        eventually(lambda: any(folder.glob("req_*.json")))
        path = next(folder.glob("req_*.json"))
        assert path.stat().st_mode & 0o777 == 0o600
        captured = json.loads(path.read_text())
    assert captured["request"]["headers"]["x-api-key"] == "[redacted]"
    assert "look here" in captured["request"]["body"] and "look here" in captured["to_upstream"]
    assert "message_stop" in captured["answer"] and TOKEN not in json.dumps(captured)
