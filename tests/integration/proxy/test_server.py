"""What the server does for systemd, and to readers that read nothing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from llmstack.paths import Home
from llmstack.proxy import server
from llmstack.proxy.app import Proxy
from llmstack.proxy.client_writer import Patience
from llmstack.proxy.gate import Policy
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.report import Reporter
from llmstack.proxy.server import ConnectionLimits, bind, notify, protocol_with, watchdog_pause_s
from support.proxy_stand import ProxyStand, ask
from support.streams import event, text
from support.upstream import Asked, Upstream, Wire, aside, hello, say
from support.wait import eventually, free_port


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    running = Upstream(hello)
    yield running
    running.close()


class InProcess:
    """A proxy in a thread, so that its patience can be made short."""

    def __init__(self, root: Path, upstream: Upstream, limits: ConnectionLimits | None = None) -> None:
        self.stand = ProxyStand(root, upstream.port)
        home = Home(root / "config", root / "state", root / "data", root / "cache")
        self.out = StringIO()
        reporter = Reporter(self.out)
        live = LiveConfig(home, reporter.event).start()
        self.proxy = Proxy(live, Policy(port=self.stand.port), reporter)
        listener = bind("127.0.0.1", self.stand.port)
        self.limits = limits or ConnectionLimits(on_change=reporter.connections.set)
        options: dict[str, Any] = {"http": protocol_with(self.limits), "log_config": None, "lifespan": "on"}
        self.server = uvicorn.Server(uvicorn.Config(self.proxy.asgi, **options))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([listener])), daemon=True)
        self.thread.start()
        eventually(lambda: self.server.started)

    def stop(self) -> None:
        self.server.should_exit = True
        self.server.force_exit = True
        self.thread.join(10)


@pytest.fixture
def inside(tmp_path: Path, upstream: Upstream) -> Iterator[InProcess]:
    running = InProcess(tmp_path, upstream)
    yield running
    running.stop()


def test_a_reader_that_reads_nothing_is_cut_after_its_time(inside: InProcess, upstream: Upstream) -> None:
    """Fault 42, second half."""

    async def flood(asked: Asked, wire: Wire) -> None:
        if asked.path != "/v1/chat/completions":
            await aside(asked, wire)
            return
        await wire.begin()
        while not wire.writer.transport.is_closing():
            await wire.send(text("x" * 1000) * 50)

    upstream.script = flood
    inside.proxy.conversations.patience = Patience(slow_reader_s=1.0)
    begun = time.monotonic()
    with inside.stand.raw(inside.stand.head(ask())):
        eventually(lambda: len(upstream.completions) == 1)
        eventually(lambda: upstream.open == 0, within_s=10)
    assert time.monotonic() - begun < 9
    eventually(lambda: "slow_reader" in inside.out.getvalue())


def test_an_answer_that_is_not_streamed_begins_with_blanks_after_a_while(inside: InProcess, upstream: Upstream) -> None:
    async def slow(asked: Asked, wire: Wire) -> None:
        await asyncio.sleep(2)
        await wire.stream(say("late but whole"))

    upstream.script = slow
    inside.proxy.conversations.patience = Patience(whole_keepalive_s=0.5, tick_s=0.1)
    answer = inside.stand.post(ask(stream=False))
    assert answer.status == 200 and answer.data.startswith(b" ")
    assert json.loads(answer.data)["content"][0]["text"] == "late but whole"


def test_prefill_is_told_in_the_log(inside: InProcess, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmstack.proxy import answer_reader

    monkeypatch.setattr(answer_reader, "PROGRESS_S", 0.05)

    async def reading(asked: Asked, wire: Wire) -> None:
        if asked.path != "/v1/chat/completions":
            await aside(asked, wire)
            return
        await wire.begin()
        for done in (100, 200, 300):
            progress = {"total": 300, "cache": 40, "processed": done, "time_ms": done}
            await wire.send(event({"choices": [{"index": 0, "delta": {}}], "prompt_progress": progress}))
            await asyncio.sleep(0.1)
        await wire.send(say("done"))
        await wire.end()

    upstream.script = reading
    assert inside.stand.post(ask()).said == "done"
    lines = [json.loads(line) for line in inside.out.getvalue().splitlines()]
    progress = [line for line in lines if line["event"] == "prefill"]
    assert progress and progress[-1]["of"] == 300 and progress[-1]["cached"] == 40


def test_the_oldest_idle_connection_makes_room_and_a_busy_one_never(tmp_path: Path, upstream: Upstream) -> None:
    """Fault 41."""

    async def slow(asked: Asked, wire: Wire) -> None:
        await asyncio.sleep(1.5)
        await wire.stream(say("still here"))

    upstream.script = slow
    running = InProcess(tmp_path, upstream, ConnectionLimits(most=4))
    try:
        busy = running.stand.raw(running.stand.head(ask()))
        eventually(lambda: len(upstream.completions) == 1)
        idle = [running.stand.raw() for _ in range(8)]
        time.sleep(0.3)
        assert running.limits.count <= 4
        data = b""
        while b"message_stop" not in data:
            piece = busy.recv(65536)
            assert piece
            data += piece
        assert b"still here" in data
        for connection in (busy, *idle):
            connection.close()
    finally:
        running.stop()


def test_systemd_is_told_by_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        notify("READY=1")
        assert receiver.recv(100) == b"READY=1"
    notify("nobody listens any more")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("nobody asked")


def test_the_watchdog_is_fed_twice_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert watchdog_pause_s() == 5.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert watchdog_pause_s() is None
    monkeypatch.delenv("WATCHDOG_USEC")
    assert watchdog_pause_s() is None


def test_a_started_proxy_says_ready_and_stays_alive(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    stand = ProxyStand(tmp_path / "home", free_port())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(15)
        stand.start(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="400000")
        told = [receiver.recv(200) for _ in range(4)]
        assert told[0].startswith(b"READY=1") and told.count(b"WATCHDOG=1") >= 2
        assert stand.stop() in (0, -15)
        rest = []
        while not rest or not rest[-1].startswith(b"STOPPING=1"):
            rest.append(receiver.recv(200))


def test_half_of_a_drain_leaves_time_for_the_last_words() -> None:
    assert server.DRAIN_S < 30
