"""The supervisor process: keeps services running, restarts them with back-off, writes their logs.

    python -m llmstack.process.daemon STATE_FOLDER LOG_FOLDER

SIGHUP: read services.json again. SIGTERM: stop everything and leave. It has left the terminal that started it (its
own session); its services die with it (PR_SET_PDEATHSIG), so nothing is ever left behind without a keeper.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from llmstack.process.files import Actual, OrderedService, SupervisorFolder, SupervisorReport
from llmstack.process.logfile import LogWriter
from llmstack.supervisor import ServiceState

BACKOFF_S = (0.2, 1.0, 2.0, 4.0, 8.0)  # pauses before the restarts in a row
STEADY_S = 60.0  # a service that lived this long starts counting anew
STOP_S = 35.0  # from SIGTERM to SIGKILL: the proxy drains for up to 30 s
LINE_LIMIT = 1 << 20


class ServiceKeeper:
    """One service: started, watched and restarted until told to stop."""

    def __init__(self, service: OrderedService, folder: SupervisorFolder, changed: Callable[[], None]) -> None:
        self.service = service
        self.actual = Actual(ServiceState.STARTING)
        self._folder = folder
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """SIGTERM to the service's process group, SIGKILL after STOP_S."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), STOP_S)
            self._signal(signal.SIGKILL)
        await self._task

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _keep(self) -> None:
        log = LogWriter(self._folder.log(self.service.name))
        deaths_in_a_row = 0
        try:
            while not self._stopping.is_set():
                started = time.monotonic()
                last_exit = await self._run_once(log)
                if self._stopping.is_set():
                    break
                deaths_in_a_row = 0 if time.monotonic() - started >= STEADY_S else deaths_in_a_row
                given_up = deaths_in_a_row == len(BACKOFF_S)
                state = ServiceState.FAILED if given_up else ServiceState.BACKOFF
                self._become(state, restarts=self.actual.restarts + 1, last_exit=last_exit)
                if given_up:
                    log.write(
                        time.time(), f"llmstack: {last_exit}; it died {deaths_in_a_row + 1} times in a row: gave up"
                    )
                    await self._stopping.wait()
                    break
                pause = BACKOFF_S[deaths_in_a_row]
                deaths_in_a_row += 1
                log.write(time.time(), f"llmstack: {last_exit}; starting it again in {pause:g} s")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
        finally:
            log.close()
        self._become(ServiceState.STOPPED, restarts=self.actual.restarts, last_exit=self.actual.last_exit)

    async def _run_once(self, log: LogWriter) -> str:
        """Runs the service to its end; returns how it ended, in words."""
        kills_before = oom_kills()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.service.argv,
                env=os.environ | self.service.env,
                cwd=self.service.working_directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
                limit=LINE_LIMIT,
            )
        except OSError as error:
            return f"could not be started: {error}"
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        self._become(
            ServiceState.RUNNING,
            pid=self._process.pid,
            started_at=time.time(),
            restarts=self.actual.restarts,
            last_exit=self.actual.last_exit,
        )
        assert self._process.stdout is not None
        await _copy_lines(self._process.stdout, log)
        status = await self._process.wait()
        return how_it_ended(status, out_of_memory=oom_kills() > kills_before)

    def _become(
        self,
        state: ServiceState,
        *,
        restarts: int,
        last_exit: str | None,
        pid: int | None = None,
        started_at: float | None = None,
    ) -> None:
        self.actual = Actual(state, pid, started_at, restarts, last_exit)
        self._changed()


async def _copy_lines(stream: asyncio.StreamReader, log: LogWriter) -> None:
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # longer than LINE_LIMIT: asyncio has dropped it
            log.write(time.time(), f"llmstack: a line of over {LINE_LIMIT} bytes was left out")
            continue
        if not line:
            return
        log.write(time.time(), line.decode(errors="replace").rstrip("\r\n"))


def oom_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """How often the kernel's out-of-memory killer has struck on this machine, control groups included (Linux 4.13)."""
    try:
        lines = vmstat.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def how_it_ended(status: int, *, out_of_memory: bool) -> str:
    """out_of_memory: the kernel's killer struck while it ran; a SIGKILL is then taken to be its."""
    if status == -signal.SIGKILL and out_of_memory:
        return "out of memory: the kernel killed it (SIGKILL)"
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """In the child, before exec: the kernel kills it when its keeper dies (Linux only)."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Daemon:
    """All keepers, brought in line with services.json whenever it changes."""

    def __init__(self, folder: SupervisorFolder) -> None:
        self._folder = folder
        self._keepers: dict[str, ServiceKeeper] = {}
        self._obeyed = -1
        self._reread = asyncio.Event()
        self._leave = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reread.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave.set)
        self._reread.set()
        leave = asyncio.create_task(self._leave.wait())
        while not leave.done():
            reread = asyncio.create_task(self._reread.wait())
            await asyncio.wait((leave, reread), return_when=asyncio.FIRST_COMPLETED)
            reread.cancel()
            if self._reread.is_set() and not leave.done():
                self._reread.clear()
                await self._obey()
        await self._stop(list(self._keepers))
        self._write()

    async def _obey(self) -> None:
        order = self._folder.read_order()
        services = {service.name: service for service in order.services}
        await self._stop([name for name, keeper in self._keepers.items() if services.get(name) != keeper.service])
        for name, service in services.items():
            if name not in self._keepers:
                self._keepers[name] = ServiceKeeper(service, self._folder, self._write)
        self._obeyed = order.number
        self._write()

    async def _stop(self, names: list[str]) -> None:
        await asyncio.gather(*(self._keepers[name].stop() for name in names))
        for name in names:
            del self._keepers[name]

    def _write(self) -> None:
        services = {name: keeper.actual for name, keeper in self._keepers.items()}
        self._folder.write_report(SupervisorReport(os.getpid(), self._obeyed, services))


def main(argv: list[str]) -> int:
    folder = SupervisorFolder(Path(argv[0]), Path(argv[1]))
    folder.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0  # another one lives; its caller will signal it
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    asyncio.run(Daemon(folder).run())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
