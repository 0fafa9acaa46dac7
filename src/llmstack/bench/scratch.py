"""An engine of one's own for a measurement: on a free loopback port, with the server's key, ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from llmstack.deploy import keys
from llmstack.deploy.failure_causes import of_exit
from llmstack.deploy.supervisors import supervisor_for
from llmstack.deploy.waiting import load_s, wait_until
from llmstack.engine import embedded
from llmstack.engine.control import EngineClient, Readiness
from llmstack.engine.find import Engine
from llmstack.engine.flags import fit, parse_help
from llmstack.errors import NotSo
from llmstack.hardware import Hardware
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
    port = free_port()
    full_argv = (*argv, "--host", "127.0.0.1", "--port", str(port), "--api-key-file", str(home.server_key), "--no-ui")
    fitted = fit(full_argv, engine.flags or parse_help(embedded.help_text()), engine=engine.name)
    log = home.logs / "scratch.log"
    log.write_bytes(b"")
    with (
        child([*engine.command, *fitted.argv], log) as process,
        EngineClient(f"http://127.0.0.1:{port}", home.server_key) as client,
    ):
        wait_loaded(process, client, START_S + load_s(model_bytes), log)
        yield client, process.pid


@contextlib.contextmanager
def child(
    argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own that ends with the block, and with us however we end. Its words go to `log`."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd="/",  # `python -m` would import what lies in the current folder, a types.py of any project
            env=None if environment is None else dict(environment),
            start_new_session=True,
            preexec_fn=die_with_parent,  # a killed command leaves no engine behind
        )
    try:
        yield process
    finally:
        _end(process)


def wait_loaded(process: subprocess.Popen[bytes], client: EngineClient, limit_s: float, log: Path) -> None:
    """Returns once the model is loaded. Raises NotSo when the engine ends before, or takes too long."""

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


@contextlib.contextmanager
def room_on_the_card(home: Home, hardware: Hardware, on_progress: Callable[[str], None]) -> Iterator[None]:
    """On a GPU the deployed server holds the memory: it is stopped, and comes back whatever happens."""
    supervisor = supervisor_for(home)
    if not hardware.devices or not any(status.pid for status in supervisor.status().values()):
        yield
        return
    from llmstack.deploy.apply import restart

    on_progress("stopping the stack to make room")
    supervisor.stop()
    try:
        yield
    finally:
        on_progress("starting the stack again")
        restart(home, (), lambda _: None)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
