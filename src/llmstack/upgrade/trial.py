"""A stack of its own for a trial: one engine and one proxy on free loopback ports, in a home of its own.

Both are children of this process and end with it. The user's stack, its ports and its saved states are not touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmstack import stackfile
from llmstack.bench.scratch import START_S, child, free_port, wait_loaded
from llmstack.deploy import keys, warm
from llmstack.deploy.apply import Deployment, record_of
from llmstack.deploy.services import Addresses
from llmstack.deploy.waiting import load_s, wait_until
from llmstack.engine.control import EngineClient
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.stackfile import ProxyEntry, StackRecord

PROXY_S = 30.0
_PREFIX = "trial-"


@dataclass(slots=True)
class TrialStack:
    """home: its own folders, removed at the end. log: of engine and proxy. loaded_s: from start to loaded."""

    home: Home
    record: StackRecord
    model_bytes: int
    log: Path
    loaded_s: float = 0.0
    _engine: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.record.proxy.url

    @property
    def model(self) -> str:
        return self.record.model.name

    @property
    def token(self) -> str:
        return keys.token(self.home)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes if process.poll() is None]

    def engine(self) -> EngineClient:
        return EngineClient(self.record.server.url, self.home.server_key)

    def start_engine(self) -> None:
        """Raises NotSo when the model does not load."""
        service = self.record.services[0]
        warm.make_folder(self.record)
        process = self._engine.enter_context(child(service.argv, self.log, {**os.environ, **service.env}))
        self._processes.append(process)
        with self.engine() as client:
            wait_loaded(process, client, START_S + load_s(self.model_bytes), self.log)

    def stop_engine(self) -> None:
        self._engine.close()

    def save(self) -> int:
        """What the slots hold goes to the trial's own folder; how many they were."""
        return warm.save(self.home, self.record)

    def restore(self) -> dict[str, Any]:
        return warm.restore(self.home, self.record)


@contextlib.contextmanager
def trial(home: Home, deployment: Deployment) -> Iterator[TrialStack]:
    """A running engine and proxy. Raises NotSo when one does not come up, MissingPart for a flag the engine lacks."""
    _sweep(home)
    root = home.cache / f"{_PREFIX}{os.getpid()}"
    own = Home(root / "config", root / "state", root / "data", root / "cache").make()
    try:
        keys.ensure(own)
        at = Addresses(ProxyEntry(port=free_port()), server_port=free_port())
        record = record_of(own, replace(deployment, addresses=at), "process")
        stackfile.write(own, record)
        size = deployment.model.size_bytes
        running = TrialStack(own, record, size, home.logs / "upgrade.log")
        running.log.write_bytes(b"")
        with contextlib.ExitStack() as ends:
            ends.callback(running.stop_engine)
            began = time.monotonic()
            running.start_engine()
            running.loaded_s = time.monotonic() - began
            ends.enter_context(_proxy(running, root))
            yield running
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _proxy(running: TrialStack, root: Path) -> Iterator[None]:
    port = str(running.record.proxy.port)
    argv = (sys.executable, "-P", "-m", "llmstack", "serve-proxy", "--port", port)
    with child(argv, running.log, {**os.environ, "LLMSTACK_HOME": str(root)}) as process:
        running._processes.append(process)

        def answers() -> bool | None:
            if process.poll() is not None:
                raise NotSo("the proxy of the trial ended", why=f"its log: {running.log}")
            return True if warm.health(running.record) else None

        if wait_until(answers, PROXY_S) is None:
            raise NotSo(f"the proxy of the trial did not answer in {PROXY_S:.0f} s", why=f"its log: {running.log}")
        yield


def _sweep(home: Home) -> None:
    """Folders of trials that were killed."""
    for folder in home.cache.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX)
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
