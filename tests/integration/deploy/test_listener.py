"""A port of ours that somebody else took: named, and sent no secret."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llmstack.deploy import listener, ready, warm
from llmstack.deploy.listener import stranger
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.stackfile import StackRecord
from llmstack.supervisor import Supervisor
from support.wait import eventually, free_port, is_open

# It daemonises: a child of the test would count as one of ours.
IMPOSTOR = """
import http.server, os, sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(sys.argv[2], "a").write(f"{self.path} {dict(self.headers)}\\n")
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    do_POST = do_GET
open(sys.argv[2] + ".pid", "w").write(str(os.getpid()))
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def supervising(*pids: int) -> Supervisor:
    services = {str(pid): SimpleNamespace(pid=pid) for pid in pids}
    return cast(Supervisor, SimpleNamespace(status=lambda: services))


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[tuple[str, int, Path]]:
    port, heard = free_port(), tmp_path / "heard"
    subprocess.run([sys.executable, "-c", IMPOSTOR, str(port), str(heard)], check=True)
    eventually(lambda: is_open(port), "it listens")
    pid = int((tmp_path / "heard.pid").read_text())
    yield f"http://127.0.0.1:{port}", pid, heard
    subprocess.run(["kill", "-9", str(pid)], check=True)


def test_a_service_of_ours_a_child_and_an_empty_port_are_no_strangers(impostor: tuple[str, int, Path]) -> None:
    url, pid, _ = impostor
    assert stranger(supervising(pid), url) is None
    assert stranger(supervising(), f"http://127.0.0.1:{free_port()}") is None
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        own.listen()
        assert stranger(supervising(), f"http://127.0.0.1:{own.getsockname()[1]}") is None


def test_an_impostor_is_named_and_sent_nothing(
    impostor: tuple[str, int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, pid, heard = impostor
    home = Home(*(tmp_path / name for name in ("config", "state", "data", "cache"))).make()
    home.token.write_text("the-token")
    for module in (listener, warm):
        monkeypatch.setattr(module, "supervisor_for", lambda home: supervising())
    stack: Any = SimpleNamespace(proxy=SimpleNamespace(url=url), server=SimpleNamespace(url=url))
    record = cast(StackRecord, stack)
    assert warm.save(home, record) == 0 and warm.restore(home, record) == {}
    with pytest.raises(NotSo, match=f"pid {pid}"):
        warm.warm(home, record, None)
    with pytest.raises(NotSo, match=f"pid {pid}"):
        ready.wait_ready(supervising(), "proxy", url, deadline_s=5)
    assert "the-token" not in heard.read_text() and "uthorization" not in heard.read_text()
