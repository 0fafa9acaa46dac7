"""A server that ends at a word, as a process of its own: python -m support.mortal_server PORT, or MortalServer.

| word in a request's body | what happens                                              |
| ------------------------ | --------------------------------------------------------- |
| POISON                   | it ends before it answers                                 |
| LATE                     | it ends behind the first text of its answer               |
| SLOW                     | the answer takes two seconds                              |
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmstack.paths import Home
from llmstack.process import ProcessSupervisor
from llmstack.supervisor import Service, ServiceState, ServiceStatus
from support.proxy_stand import ProxyStand
from support.streams import text
from support.upstream import Asked, Upstream, Wire, aside, say
from support.wait import eventually, free_port, is_open

LAST_WORDS = "/src/llama-context.cpp:99: GGML_ASSERT(n_tokens > 0) failed"
SLOW_S = 2.0


def _end() -> None:
    print(f"the prompt was: a secret\n{LAST_WORDS}", file=sys.stderr, flush=True)
    os.abort()


async def _answer(asked: Asked, wire: Wire) -> None:
    if b"POISON" in asked.body:
        _end()
    if asked.path != "/v1/chat/completions":
        await aside(asked, wire)
        return
    if b"LATE" in asked.body:
        await wire.begin()
        await wire.send(text("half an "))
        await asyncio.sleep(0.2)
        _end()
    if b"SLOW" in asked.body:
        await asyncio.sleep(SLOW_S)
    await wire.stream(say("Hel", "lo"))


class MortalServer:
    """Kept running by llmstack's own supervisor, with a real proxy in front of it."""

    def __init__(self, root: Path, models: str | None = None) -> None:
        self.port = free_port()
        self.stand = ProxyStand(root, self.port, models=models, supervisor="process")
        folders = (root / name for name in ("config", "state", "data", "cache"))
        self.supervisor = ProcessSupervisor(Home(*folders))

    @property
    def status(self) -> ServiceStatus:
        return self.supervisor.status()["server"]

    def start(self) -> None:
        argv = (sys.executable, "-m", "support.mortal_server", str(self.port))
        tests = str(Path(__file__).parent.parent)
        self.supervisor.apply([Service("server", "mortal", argv, {"PYTHONPATH": tests})])
        self.stand.start()
        self.ready()

    def ready(self) -> None:
        """It answers, after whatever death."""
        eventually(lambda: self.status.state is ServiceState.RUNNING and is_open(self.port), "the server is there")


@contextmanager
def mortal(root: Path, models: str | None = None) -> Iterator[MortalServer]:
    server = MortalServer(root, models)
    try:
        server.start()
        yield server
    finally:
        server.stand.stop()
        server.supervisor.stop()
        assert "Traceback" not in server.stand.log_path.read_text(), server.stand.log_path.read_text()[-4000:]


if __name__ == "__main__":
    Upstream(_answer, port=int(sys.argv[1]))
    signal.pause()
