"""What the engine did is asked once for each start, of a real socket and a real file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmstack.deploy import observe
from llmstack.paths import Home
from llmstack.plan import Goal, make_plan
from llmstack.process import ProcessSupervisor
from llmstack.stackfile import ModelEntry, ServerEntry, StackRecord, stored
from llmstack.supervisor import LogLine, ServiceState, ServiceStatus
from support.planner.draws import facts, machine

LOG = ("srv load_model: loading model '/m/q.gguf'", "load_tensors:        CUDA0 model buffer size =   100.00 MiB")


class Watched(ProcessSupervisor):
    """Its server is this process. reads: how often the log was asked for."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self.reads, self.uptime_s = 0, 100.0

    def status(self) -> dict[str, ServiceStatus]:
        return {"server": ServiceStatus("server", ServiceState.RUNNING, os.getpid(), self.uptime_s)}

    def logs(self, names: Sequence[str], *, last: int | None, since_s: float | None) -> list[LogLine]:
        self.reads += 1
        return [LogLine(0.0, "server", text) for text in LOG]


@contextmanager
def props(n_ctx: int) -> Iterator[int]:
    class Props(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"default_generation_settings": {"n_ctx": n_ctx}, "total_slots": 1}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Props)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def record(port: int, *, ngl: int = 49) -> StackRecord:
    plan = make_plan(facts("qwen3moe-30b-a3b"), machine(24, 64, gpus=1), Goal(ctx=4096, parallel=1))
    plan = replace(plan, assignment=replace(plan.assignment, ngl=ngl))
    return StackRecord(
        ModelEntry("q", "/m/q.gguf"), ServerEntry("127.0.0.1", port), n_ctx_slot=4096, stored_plan=stored(plan)
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "c", tmp_path / "s", tmp_path / "d", tmp_path / "x").make()


def test_a_start_is_looked_at_once_and_the_next_one_again(home: Home) -> None:
    supervisor = Watched(home)
    with props(4096) as port:
        first = observe.observed(home, record(port), supervisor)
        assert observe.observed(home, record(port), supervisor) == first
        assert supervisor.reads == 1
        supervisor.uptime_s = 1.0  # it was started again, and got the same process number
        observe.observed(home, record(port), supervisor)
    assert supervisor.reads == 2
    assert (first.n_ctx_slot, first.buffers_mib) == (4096, {"CUDA0": 100.0})


def test_the_record_takes_the_context_of_props(home: Home) -> None:
    with props(4352) as port:
        assert observe.require(home, record(port), Watched(home)).n_ctx_slot == 4352


def test_without_a_device_the_log_is_read_only_to_explain_a_smaller_context(home: Home) -> None:
    supervisor = Watched(home)
    with props(4096) as port:
        observe.observed(home, record(port, ngl=0), supervisor)
    assert supervisor.reads == 0
    supervisor.uptime_s = 1.0
    with props(2048) as port:
        observe.observed(home, record(port, ngl=0), supervisor)
    assert supervisor.reads == 1


def test_what_did_not_answer_is_asked_again(home: Home) -> None:
    supervisor = Watched(home)
    served = observe.observed(home, record(9), supervisor)
    observe.observed(home, record(9), supervisor)
    assert served.n_ctx_slot is None and supervisor.reads == 2
    assert observe.require(home, record(9), supervisor).n_ctx_slot == 4096
