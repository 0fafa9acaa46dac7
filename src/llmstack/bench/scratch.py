"""An engine of one's own for a measurement: on a free loopback port, with the server's key, ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence

from llmstack.deploy import keys
from llmstack.deploy.failure_causes import of_exit
from llmstack.deploy.waiting import load_s, wait_until
from llmstack.engine import embedded
from llmstack.engine.control import EngineClient, Readiness
from llmstack.engine.find import Engine
from llmstack.engine.flags import fit, parse_help
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.process.daemon import die_with_parent, how_it_ended

START_S = 20.0
_END_S = 15.0


@contextlib.contextmanager
def scratch(
    home: Home, engine: Engine, argv: Sequence[str], *, model_bytes: int = 0
) -> Iterator[tuple[EngineClient, int]]:
    """A running engine and its pid. Raises NotSo when it does not come up, MissingPart for a flag it lacks."""
    home.make()
    keys.ensure(home)
    port = _free_port()
    full_argv = (*argv, "--host", "127.0.0.1", "--port", str(port), "--api-key-file", str(home.server_key), "--no-ui")
    fitted = fit(full_argv, engine.flags or parse_help(embedded.help_text()), engine=engine.name)
    log = home.logs / "scratch.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*engine.command, *fitted.argv],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd="/",  # `python -m` would import what lies in the current folder, a types.py of any project
            start_new_session=True,
            preexec_fn=die_with_parent,  # a killed bench leaves no engine behind
        )
    try:
        with EngineClient(f"http://127.0.0.1:{port}", home.server_key) as client:
            _wait(process, client, START_S + load_s(model_bytes), str(log))
            yield client, process.pid
    finally:
        _end(process)


def _wait(process: subprocess.Popen[bytes], client: EngineClient, limit_s: float, log: str) -> None:
    def probe() -> bool | None:
        if client.readiness(1.0) is Readiness.READY:
            return True
        if process.poll() is None:
            return None
        how = how_it_ended(process.returncode, out_of_memory=False)
        cause = of_exit(how)
        raise NotSo(
            f"the engine did not load the model: {how}",
            why=f"{cause.what}; its log: {log}" if cause is not None else f"its log: {log}",
            next=cause.next if cause is not None else "",
        )

    if wait_until(probe, limit_s) is None:
        raise NotSo(f"the engine did not load the model in {limit_s:.0f} s", why=f"its log: {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
