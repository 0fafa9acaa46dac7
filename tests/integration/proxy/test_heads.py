"""The head of a request: too large a one is told, and what comes behind a body is no part of it."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.proxy_stand import TOKEN, ProxyStand, ask
from support.wait import eventually


def answer_to(stand: ProxyStand, data: bytes) -> bytes:
    received = b""
    with stand.raw(data) as connection:
        connection.settimeout(15)
        try:
            while piece := connection.recv(65536):
                received += piece
        except (TimeoutError, ConnectionResetError):
            pass
    return received


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"x-%d: y\r\n" % number for number in range(300)),
        b"x: " + b"y" * 70_000 + b"\r\n",
        b"".join(b"x-%d: %b\r\n" % (number, b"y" * 2000) for number in range(60)),
    ],
    ids=["many", "one that is long", "many that are long together"],
)
def test_a_head_that_is_too_large_gets_a_431(head: bytes, stand: ProxyStand) -> None:
    request = b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: " + TOKEN.encode() + b"\r\n"
    assert answer_to(stand, request + head + b"\r\n").startswith(b"HTTP/1.1 431 ")
    assert stand.get("/v1/models").status == 200


def test_a_trailer_field_is_no_header(stand: ProxyStand) -> None:
    body = json.dumps(ask()).encode()
    head = b"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n"
    chunks = b"%x\r\n%b\r\n0\r\nx-api-key: %b\r\n\r\n" % (len(body), body, TOKEN.encode())
    assert answer_to(stand, head + b"\r\n" + chunks).startswith(b"HTTP/1.1 401 ")
    good = b"x-api-key: " + TOKEN.encode() + b"\r\n\r\n"
    assert answer_to(stand, head + good + chunks.replace(b"x-api-key: " + TOKEN.encode(), b"x: y")).startswith(
        b"HTTP/1.1 200 "
    )


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from llmstack.proxy.server import MAX_CONNECTIONS, room_for_connections
print(room_for_connections(), MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_the_cap_on_connections_is_below_what_open_files_allow() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard == resource.RLIM_INFINITY or hard >= 4096

    def room(soft: int, hard: int) -> tuple[int, ...]:
        command = [sys.executable, "-c", LIMITED, str(soft), str(hard)]
        return tuple(map(int, subprocess.run(command, capture_output=True, check=True).stdout.split()))

    allowed, most, raised = room(256, 4096)
    assert allowed == most and raised >= 2 * most, "the soft limit is raised"
    allowed, most, raised = room(256, 512)
    assert allowed < most and 2 * allowed < raised == 512, "and where it cannot be, the cap is lower"


def test_a_token_that_can_be_guessed_refuses_to_start(tmp_path: Path) -> None:
    stand = ProxyStand(tmp_path / "home")
    stand.token_path.write_text("x\n")
    command = [sys.executable, "-m", "llmstack", "serve-proxy", "--port", str(stand.port)]
    done = subprocess.run(
        command, env={"LLMSTACK_HOME": str(stand.root), "PATH": ""}, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2 and b"can be guessed" in done.stderr


def test_bodies_that_are_half_sent_are_bounded_together(stand: ProxyStand) -> None:
    """Each is within its own limit."""
    size = 30 * 1024 * 1024
    lines = ("POST /v1/messages HTTP/1.1", "host: 127.0.0.1", f"x-api-key: {TOKEN}", f"content-length: {size}", "", "")
    head = "\r\n".join(lines).encode()
    piece = b"x" * (size - 1)
    connections: list[socket.socket] = []
    try:
        answers = 0
        for _ in range(10):
            connection = stand.raw(head)
            connections.append(connection)
            connection.settimeout(30)
            try:
                connection.sendall(piece)
            except OSError:
                answers += 1
        connections[-1].settimeout(30)
        assert b" 529 " in connections[-1].recv(65536) or answers
    finally:
        for connection in connections:
            connection.close()
    eventually(lambda: stand.post(ask()).status == 200)
