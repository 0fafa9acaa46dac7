"""The real llama.cpp as the judge: what llama-server itself reports before it loads a model.

`ggml-rpc-server` turns this machine's CPU into a GPU-type device of its own, and a sparse GGUF gives the
true tensor table, so weights, cache and compute buffers are those of a real start. llama-server prints its
`fit_memory_breakdown` before loading anything; it is stopped there.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from llmstack.detect.dry_run import Breakdown, dry_run, fit_params
from llmstack.errors import NotSo


class OracleError(AssertionError):
    """llama-server ended without a breakdown; the text is the end of its log."""


@dataclass(slots=True)
class Oracle:
    """The stand-in GPUs live as long as this object; one that dies with its client is started again."""

    engine: Path
    count: int = 1
    _servers: list[tuple[int, subprocess.Popen[bytes]]] = field(default_factory=list)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.1:{port}" for port, _ in self._servers)

    def start(self) -> None:
        for number in range(self.count):
            if number >= len(self._servers):
                self._servers.append(self._spawn())
            elif self._servers[number][1].poll() is not None:
                self._servers[number] = self._spawn()

    def stop(self) -> None:
        for _, server in self._servers:
            server.kill()
            server.wait()
        self._servers.clear()

    def _spawn(self) -> tuple[int, subprocess.Popen[bytes]]:
        port = _free_port()
        argv = [str(self.engine / "ggml-rpc-server"), "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait(port)
        return port, server

    def measure(self, model: Path, flags: Sequence[str], *, on_gpu: bool = True) -> Breakdown:
        """What llama-server reports; tried twice, because a stand-in may die when its client is stopped."""
        try:
            self.start()
            return self._measure(model, flags, on_gpu=on_gpu)
        except OracleError:
            time.sleep(0.2)
            self.start()
            return self._measure(model, flags, on_gpu=on_gpu)

    def _measure(self, model: Path, flags: Sequence[str], *, on_gpu: bool) -> Breakdown:
        # The servers first: -dev names only devices that are there when it is read.
        argv = ["-m", str(model), *(["--rpc", ",".join(self.endpoints)] if on_gpu else []), *flags]
        try:
            return dry_run(self.engine / "llama-server", argv)
        except NotSo as error:
            raise OracleError(error.why) from None

    def fit(self, model: Path, flags: Sequence[str]) -> list[str]:
        """The flags llama-fit-params chooses, as it prints them."""
        self.start()
        argv = ["-m", str(model), *flags, "--rpc", ",".join(self.endpoints)]
        return list(fit_params(self.engine / "llama-fit-params", argv))


@contextmanager
def stand_in_gpus(engine: Path, count: int = 1) -> Iterator[Oracle]:
    """`count` RPC devices on loopback, each this machine's CPU and RAM under a device name of its own."""
    oracle = Oracle(engine, count)
    try:
        oracle.start()
        yield oracle
    finally:
        oracle.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise OracleError(f"ggml-rpc-server did not open port {port}") from None
            time.sleep(0.05)
