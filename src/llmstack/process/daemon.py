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
from typing import Any

import msgspec

from llmstack import started_from
from llmstack.process.files import Actual, OrderedService, SupervisorFolder, SupervisorReport
from llmstack.process.logfile import LogThread, LogWriter, stamp
from llmstack.process.watchdog import Watchdog
from llmstack.supervisor import ServiceState

BACKOFF_S = (0.2, 1.0, 2.0, 4.0, 8.0)  # pauses before the restarts in a row
LONG_PAUSES_S = (30.0, 60.0, 120.0, 300.0)  # then it counts as failed; the last one is repeated, without an end
STEADY_S = 60.0  # a service that lived this long starts counting anew
STOP_S = 35.0  # from SIGTERM to SIGKILL: the proxy drains for up to 30 s
LINE_LIMIT = 1 << 20
FAULT_PAUSE_S = 1.0  # after a fault of this program itself
LOOK_S = 1.0


def pause_after(deaths: int) -> tuple[ServiceState, float]:
    """After so many deaths in a row: how the service is called, and the seconds until it is started again."""
    if deaths <= len(BACKOFF_S):
        return ServiceState.BACKOFF, BACKOFF_S[deaths - 1]
    return ServiceState.FAILED, LONG_PAUSES_S[min(deaths - len(BACKOFF_S), len(LONG_PAUSES_S)) - 1]


class ServiceKeeper:
    """One service: started, watched and restarted until told to stop, whatever goes wrong in doing so."""

    def __init__(self, service: OrderedService, folder: SupervisorFolder, changed: Callable[[], None]) -> None:
        self.service = service
        self.actual = Actual(ServiceState.STARTING)
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._deaths_in_a_row = 0
        self._hung = False
        self._log = LogThread(LogWriter(folder.log(service.name)))
        self._watchdog = Watchdog(service.watchdog_s) if service.notify else None
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

    def look(self) -> None:
        """Now and then: a service that gives no signs of life is ended, and a log in trouble is reported."""
        if self._watchdog is not None and self._watchdog.expired:
            self._watchdog.started()
            self._hung = True
            self._signal(signal.SIGKILL)
        shown = (self.actual.lost_lines, self.actual.log_problem)
        if shown != (self._log.lost, self._log.problem):
            self._become(self.actual.state)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._live_once()
            except Exception as error:  # whatever it was: the service must not be without a keeper
                print_fault(f"over {self.service.name}", error)
                self.actual = msgspec.structs.replace(self.actual, faults=self.actual.faults + 1)
                self._signal(signal.SIGKILL)  # of what was started then nobody knows how it is
                await self._pause(FAULT_PAUSE_S)
        self._become(ServiceState.STOPPED, pid=None, started=None, next_start=None)
        self._log.close()
        if self._watchdog is not None:
            self._watchdog.close()

    async def _live_once(self) -> None:
        started = time.monotonic()
        last_exit = await self._run_once()
        if self._stopping.is_set():
            return
        self._deaths_in_a_row = 1 if time.monotonic() - started >= STEADY_S else self._deaths_in_a_row + 1
        state, pause = pause_after(self._deaths_in_a_row)
        self._become(
            state,
            pid=None,
            started=None,
            restarts=self.actual.restarts + 1,
            last_exit=last_exit,
            next_start=time.monotonic() + pause,
        )
        if state is ServiceState.FAILED:
            often = f"it died {self._deaths_in_a_row} times in a row"
            self._say(f"{last_exit}; {often}: gave up for {pause:g} s, then it is tried again")
        else:
            self._say(f"{last_exit}; starting it again in {pause:g} s")
        await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _say(self, text: str) -> None:
        self._log.write(time.time(), f"llmstack: {text}")

    async def _run_once(self) -> str:
        """Runs the service to its end; returns how it ended, in words."""
        kills_before = oom_kills()
        signs = self._watchdog.environment if self._watchdog is not None else {}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.service.argv,
                env=os.environ | self.service.env | signs,
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
        self._hung = False
        if self._watchdog is not None:
            self._watchdog.started()
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        self._become(ServiceState.RUNNING, pid=self._process.pid, started=time.monotonic(), next_start=None)
        assert self._process.stdout is not None
        await _copy_lines(self._process.stdout, self._log)
        status = await self._process.wait()
        if self._hung:
            return "it gave no sign of life and was ended"
        return how_it_ended(status, out_of_memory=oom_kills() > kills_before)

    def _become(self, state: ServiceState, **changes: Any) -> None:
        log = {"lost_lines": self._log.lost, "log_problem": self._log.problem}
        self.actual = msgspec.structs.replace(self.actual, state=state, **log, **changes)
        self._changed()


def print_fault(where: str, error: BaseException) -> None:
    """Into supervisor.log, as far as there is room for it; never an error of its own."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{stamp(time.time())} a fault {where}: {type(error).__name__}: {error}\n")
        sys.stderr.flush()


async def _copy_lines(stream: asyncio.StreamReader, log: LogThread) -> None:
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
    """All keepers, brought in line with services.json whenever it changes. What cannot be read or written now, for a
    disk that is full or gone, is tried again each LOOK_S."""

    def __init__(self, folder: SupervisorFolder) -> None:
        self._folder = folder
        self._keepers: dict[str, ServiceKeeper] = {}
        self._obeyed = -1
        self._reread = asyncio.Event()
        self._leave = asyncio.Event()
        self._unwritten = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: print_fault("beside", _error_of(context)))
        loop.add_signal_handler(signal.SIGHUP, self._reread.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave.set)
        self._reread.set()
        watch = asyncio.create_task(self._watch())
        leave = asyncio.create_task(self._leave.wait())
        while not leave.done():
            reread = asyncio.create_task(self._reread.wait())
            await asyncio.wait((leave, reread), return_when=asyncio.FIRST_COMPLETED)
            reread.cancel()
            if self._reread.is_set() and not leave.done():
                self._reread.clear()
                await self._obey()
        watch.cancel()
        await self._stop(list(self._keepers))
        self._write()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for keeper in list(self._keepers.values()):
                try:
                    keeper.look()
                except Exception as error:
                    print_fault(f"over {keeper.service.name}", error)
            if self._unwritten:
                self._write()

    async def _obey(self) -> None:
        try:
            order = self._folder.read_order()
        except OSError as error:
            print_fault("in reading what is wanted", error)
            asyncio.get_running_loop().call_later(LOOK_S, self._reread.set)
            return
        services = {service.name: service for service in order.services}
        await self._stop([name for name, keeper in self._keepers.items() if services.get(name) != keeper.service])
        for name, service in services.items():
            if name not in self._keepers:
                self._keepers[name] = ServiceKeeper(service, self._folder, self._write)
        self._obeyed = order.number
        self._write()

    async def _stop(self, names: list[str]) -> None:
        ends = await asyncio.gather(*(self._keepers[name].stop() for name in names), return_exceptions=True)
        for name, end in zip(names, ends, strict=True):
            if isinstance(end, BaseException):
                print_fault(f"in stopping {name}", end)
            del self._keepers[name]

    def _write(self) -> None:
        services = {name: keeper.actual for name, keeper in self._keepers.items()}
        try:
            self._folder.write_report(SupervisorReport(os.getpid(), self._obeyed, services))
        except OSError as error:
            if not self._unwritten:
                print_fault("in writing down how the services are", error)
            self._unwritten = True
        else:
            self._unwritten = False


def _error_of(context: dict[str, Any]) -> BaseException:
    error = context.get("exception")
    return error if isinstance(error, BaseException) else RuntimeError(str(context.get("message")))


def main(argv: list[str]) -> int:
    folder = SupervisorFolder(Path(argv[0]), Path(argv[1]))
    started_from.note(folder.state, "supervisor", only="process/")
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
