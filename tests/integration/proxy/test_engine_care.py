"""A local server that hangs or is given up: noticed, ended in words, and there again without a person."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llmstack.proxy import engine_care
from llmstack.proxy.engine_care import LOOK_S, PROBE_S, REVIVE_S, SILENT_S, EngineCare
from llmstack.proxy.upstreams import Upstreams
from llmstack.supervisor import ServiceState, ServiceStatus, Supervisor
from support.mortal_server import MortalServer, mortal
from support.proxy_stand import Answer, ask
from support.wait import eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MortalServer]:
    with mortal(tmp_path) as running:
        yield running


def test_a_hung_engine_is_noticed_ended_and_started_again(server: MortalServer) -> None:
    first = server.status.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(server.stand.post(ask(), timeout_s=120)))
    asking.start()
    eventually(lambda: server.stand.get("/health").json["upstreams"]["local"] == "hung", "it is shown", within_s=60)
    within_s = 3 * (SILENT_S + LOOK_S + PROBE_S)
    eventually(lambda: server.status.pid not in (None, first), "another one runs", within_s=within_s)
    asking.join(60)
    [answer] = answers
    message = answer.json["error"]["message"] if answer.status != 200 else answer.events[-1][1]["error"]["message"]
    assert "hung and was ended" in message or "died" in message, message
    server.ready()
    assert server.stand.post(ask("again")).said == "Hello"
    assert server.stand.get("/health").json["hung"] == 1
    assert [line["result"] for line in server.stand.log if line["event"] == "engine"][:1] == ["hung"]


class Care:
    """EngineCare over a server and a supervisor that answer what they are told, and a clock that is set."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.cpu, self.answer = 0.0, 0.0, "answers"
        self.status = ServiceStatus("server", ServiceState.RUNNING, pid=4711)
        self.ended: list[int] = []
        self.restarts: list[float] = []
        self.kind = "systemd"
        live = SimpleNamespace(home=SimpleNamespace(transaction=tmp_path / "none"))
        self.upstreams = SimpleNamespace(live=live, deaths=SimpleNamespace(busy=False), starts_again_at=None)
        supervisor = cast(Supervisor, SimpleNamespace(status=lambda: {"server": self.status}, restart=self.restart))
        care = EngineCare(cast(Upstreams, self.upstreams), lambda: supervisor, self.log, lambda: self.now)
        monkeypatch.setattr(care, "_local", lambda: SimpleNamespace(name="local"))
        monkeypatch.setattr(care, "_probe", self.probe)
        monkeypatch.setattr(engine_care, "cpu_s", lambda pid: self.cpu)
        monkeypatch.setattr(engine_care.os, "kill", lambda pid, number: self.ended.append(pid))
        self.care, self.lines = care, cast("list[dict[str, Any]]", [])

    def log(self, event: str, fields: dict[str, Any]) -> None:
        self.lines.append(fields)

    def restart(self, names: Any) -> None:
        self.restarts.append(self.now)

    async def probe(self, target: Any, path: str, within_s: float) -> str:
        return self.answer

    async def pass_time(self, seconds: float, work: float = 0.0) -> None:
        """Looks each LOOK_S; work: CPU seconds of the server in each."""
        until = self.now + seconds
        while self.now < until:
            self.now += LOOK_S
            self.cpu += work
            await self.care.look()


async def test_a_server_that_is_silent_and_idle_is_ended_within_the_stated_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    care = Care(tmp_path, monkeypatch)
    await care.pass_time(60)
    care.answer = "silent"
    await care.pass_time(SILENT_S + LOOK_S)
    assert care.ended == [4711] and care.care.hung == 1


async def test_a_server_that_works_is_given_the_time_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    care = Care(tmp_path, monkeypatch)
    care.answer = "silent"
    await care.pass_time(engine_care.STUCK_S - 2 * LOOK_S, work=1.0)
    assert care.ended == []
    await care.pass_time(4 * LOOK_S, work=1.0)
    assert care.ended == [4711], "but not for ever"


async def test_what_systemd_gave_up_is_started_again_after_pauses_that_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    care = Care(tmp_path, monkeypatch)
    care.answer, care.status = "refused", ServiceStatus("server", ServiceState.FAILED)
    await care.pass_time(LOOK_S)
    assert care.upstreams.starts_again_at == care.now + REVIVE_S[0]
    await care.pass_time(1500)
    pauses = [later - sooner for sooner, later in zip(care.restarts, care.restarts[1:], strict=False)]
    assert len(care.restarts) >= 6 and pauses == sorted(pauses) and pauses[-1] >= REVIVE_S[-1]


async def test_refusals_say_when_our_own_supervisor_starts_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    care = Care(tmp_path, monkeypatch)
    care.answer, care.status = "refused", ServiceStatus("server", ServiceState.FAILED, next_start_s=42.0)
    await care.pass_time(LOOK_S)
    assert care.upstreams.starts_again_at == care.now + 42.0 and care.restarts == []
    care.answer = "answers"
    await care.pass_time(LOOK_S)
    assert care.upstreams.starts_again_at is None


def test_the_work_of_a_process_is_read_and_one_that_is_not_there_has_none() -> None:
    assert engine_care.cpu_s(os.getpid()) is not None and engine_care.cpu_s(2**30) is None
