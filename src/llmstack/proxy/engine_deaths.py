"""Requests that end the local server: noticed, told apart from the innocent ones beside them, and refused.

| what is seen                                   | what happens                                                        |
| ---------------------------------------------- | ------------------------------------------------------------------- |
| a connection to the local server breaks        | the supervisor is asked whether the server died                     |
| ... it did                                     | what was in flight is suspected (death_table.py)                    |
| ... it was restarted on request, or deployed   | all is forgotten: another server answers now                        |
| ... neither, within LOOK_S                     | nothing: a connection broke                                         |
| a suspect comes again that was not alone       | it is asked alone: it waits for the others, they wait for it        |
| a guilty one comes, or is what just ended it   | 400, which no client sends again; or the next target of its route   |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from llmstack.catalog.routes import Target
from llmstack.commands import command_line
from llmstack.errors import StackError
from llmstack.llama_server.last_words import last_words
from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused
from llmstack.proxy.death_table import DEATHS, DeathTable, EngineWork, Suspicion, WorkKind
from llmstack.proxy.report import error_location
from llmstack.supervisor import ServiceState, ServiceStatus, Supervisor

LOOK_S = 2.0  # the supervisor waits for the process, which ends a little after its connections
AGAIN_S = 0.05
ALONE_S = 60.0  # an answer may take an hour, and nobody waits that long for a test of somebody else's request
SLACK_S = 1.0  # a new process may be there before a busy event loop sees that the old one's connection broke
SAME_S = 30.0  # in which an equal count is the death that is known, not another one after a new start
LOG_S = 10.0  # llama.cpp prints a backtrace between its last words and its end
JOURNAL_S = 0.3  # until journald has written what it was given

_MANY = {WorkKind.REQUEST: "requests", WorkKind.PREFIX: "prefixes", WorkKind.STATE: "states"}


class _InFlight:
    """One request, prefix or state between its arrival and its end. cut: its connection broke, or one beside it."""

    def __init__(self, work: Callable[[], EngineWork]) -> None:
        self.work = work
        self.cut = False


class EngineDeaths:
    """supervisor: of the local server; None where nobody supervises one. secrets: never shown. clock: seconds."""

    def __init__(
        self,
        supervisor: Callable[[], Supervisor] | None,
        log_event: Callable[[str, dict[str, Any]], None],
        secrets: Callable[[], Iterable[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._supervisor = supervisor
        self._log_event = log_event
        self._secrets = secrets
        self._clock = clock
        self._table = DeathTable()
        self._turns = _Turns()
        self._in_flight: list[_InFlight] = []
        self._inquiry: asyncio.Task[None] | None = None
        self._deaths = 0  # as the supervisor counted them at the last one that was seen
        self._died_at = float("-inf")

    # ---- around what the server is asked for --------------------------------------------------------------------

    @asynccontextmanager
    async def asking(
        self, target: Target, work: Callable[[], EngineWork], *, proves: bool = True
    ) -> AsyncIterator[None]:
        """Around one request to a target. work: what it is to the server, looked up when that matters. proves: it ends
        with a whole answer, so that the server has survived it.

        Raises Refused for a request that is known to end the server.
        """
        if self._supervisor is None or not target.is_local:
            yield
            return
        entry = _InFlight(work)
        suspicion = await self._held_against(entry.work) if len(self._table) else None
        async with self._turns.turn(alone=suspicion is not None and not suspicion.alone):
            self._in_flight.append(entry)
            try:
                yield
                if proves and not entry.cut and len(self._table):
                    self._table.survived(entry.work())
            except Refused:
                if entry.cut and self._inquiry is not None:
                    await asyncio.shield(self._inquiry)
                    await self._held_against(entry.work)
                raise
            finally:
                self._in_flight.remove(entry)

    @contextmanager
    def working(self, target: Target, work: Callable[[], EngineWork]) -> Iterator[None]:
        """Around a prefix that is computed, or a state that is saved or restored."""
        entry = _InFlight(work)
        self._in_flight.append(entry)
        try:
            yield
            if not entry.cut and len(self._table):
                self._table.survived(work())
        finally:
            self._in_flight.remove(entry)

    @property
    def busy(self) -> bool:
        """Whether the local server is asked for something now."""
        return bool(self._in_flight)

    def guilty(self, work: Callable[[], EngineWork]) -> bool:
        suspicion = self._table.suspicion(work(), self._clock()) if len(self._table) else None
        return suspicion is not None and suspicion.guilty

    def forget(self) -> None:
        """Another server answers now."""
        self._table.clear()

    def to_json(self) -> dict[str, int]:
        """For /health, which asks for no token: numbers only."""
        refused = {kind: self._table.guilty(kind, self._clock()) for kind in WorkKind}
        return {_MANY[kind]: count for kind, count in refused.items() if count}

    async def _held_against(self, work: Callable[[], EngineWork]) -> Suspicion | None:
        """Raises Refused when that is enough."""
        suspicion = self._table.suspicion(work(), self._clock())
        if suspicion is None or not suspicion.guilty:
            return suspicion
        status = await asyncio.to_thread(self._look)
        if status is not None and _deaths(*status) < self._deaths:
            self.forget()
            return None
        raise Refused(refusal(suspicion))

    # ---- when it died -------------------------------------------------------------------------------------------

    def cut(self, target: Target) -> None:
        """A connection to this target broke while it was in use."""
        if self._supervisor is None or not target.is_local or (self._inquiry is not None and not self._inquiry.done()):
            return
        for entry in self._in_flight:
            entry.cut = True
        self._inquiry = asyncio.get_running_loop().create_task(self._inquire(tuple(self._in_flight), self._clock()))

    async def _inquire(self, in_flight: tuple[_InFlight, ...], cut_at: float) -> None:
        try:
            await self._look_until_clear(in_flight, cut_at)
        except Exception as error:  # a fault here must not become a fault of the request
            self._log_event("fault", {"error": type(error).__name__, "at": error_location(error)})

    async def _look_until_clear(self, in_flight: tuple[_InFlight, ...], cut_at: float) -> None:
        while (looked := await asyncio.to_thread(self._look)) is not None:
            kind, status = looked
            now, deaths = self._clock(), _deaths(kind, status)
            started = now - status.uptime_s if status.uptime_s is not None else 0.0
            down = status.state in (ServiceState.BACKOFF, ServiceState.FAILED)
            # The one that is known already may have been a second ago: a small server is quickly there again.
            known = deaths == self._deaths and now - self._died_at < SAME_S
            if deaths and not known and (down or started >= cut_at - SLACK_S):
                await self._died(in_flight, deaths, status.last_exit or "it ended")
                return
            if status.state is ServiceState.STOPPED or (not deaths and started >= cut_at):
                self.forget()
                return
            if now - cut_at > LOOK_S:
                return
            await asyncio.sleep(AGAIN_S)

    async def _died(self, in_flight: tuple[_InFlight, ...], deaths: int, how: str) -> None:
        now = self._clock()
        if deaths <= self._deaths:  # counted anew: somebody has started it since
            self.forget()
        self._deaths, self._died_at = deaths, now
        words = await asyncio.to_thread(self._last_words)
        if not words:
            await asyncio.sleep(JOURNAL_S)
            words = await asyncio.to_thread(self._last_words)
        self._table.died((entry.work() for entry in in_flight), f"{how}; {words}" if words else how, now)
        self._log_event("engine", {"result": "died", "exit": how, "in_flight": len(in_flight), **self.to_json()})

    def _look(self) -> tuple[str, ServiceStatus] | None:
        """The kind of the supervisor, and the server as that one sees it; None when nobody can tell."""
        assert self._supervisor is not None
        try:
            supervisor = self._supervisor()
            status = supervisor.status().get("server")
        except (StackError, OSError):
            return None
        return (supervisor.kind, status) if status is not None else None

    def _last_words(self) -> str:
        assert self._supervisor is not None
        try:
            lines = self._supervisor().logs(("server",), last=200, since_s=time.time() - LOG_S)
        except (StackError, OSError):
            return ""
        return last_words([line.text for line in lines], self._secrets())


def _deaths(kind: str, status: ServiceStatus) -> int:
    """systemd counts a restart when it begins one (service_enter_restart), our own supervisor the death before it."""
    down = status.state in (ServiceState.BACKOFF, ServiceState.FAILED)
    return status.restarts + (down and kind == "systemd")


def refusal(suspicion: Suspicion) -> Failure:
    """400: clients do not send that again. Compacting would not help: it sends the whole conversation."""
    times = "twice" if suspicion.deaths == DEATHS else f"{suspicion.deaths} times"
    message = (
        f"the engine died {times} on this request ({suspicion.words}), so it is not sent to it again. "
        "Go back to before it (in Claude Code: Esc twice, or /clear), or use another engine or model: "
        f"`{command_line('engine', 'list')}`; `{command_line('restart', 'server')}` lets it be tried again"
    )
    return Failure(FailureKind.INVALID, message, Cause.ENGINE_DIED)


class _Turns:
    """Requests side by side, or one alone. A wait ends after ALONE_S: then it goes on beside the others."""

    def __init__(self) -> None:
        self._running = 0
        self._alone = False
        self._want_alone = 0
        self._waiting: dict[asyncio.Future[None], None] = {}  # who came first goes first

    @asynccontextmanager
    async def turn(self, *, alone: bool) -> AsyncIterator[None]:
        if alone:
            self._want_alone += 1
            try:
                alone = await self._until(lambda: self._running == 0)
            except BaseException:
                self._wake()
                raise
            finally:
                self._want_alone -= 1
        elif self._alone or self._want_alone:
            await self._until(lambda: not (self._alone or self._want_alone))
        self._running += 1
        self._alone = self._alone or alone
        try:
            yield
        finally:
            self._running -= 1
            self._alone = self._alone and not alone
            self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def _until(self, free: Callable[[], bool]) -> bool:
        """False when it took too long."""
        try:
            async with asyncio.timeout(ALONE_S):
                while not free():
                    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting[waiting] = None
                    try:
                        await waiting
                    finally:
                        self._waiting.pop(waiting, None)
        except TimeoutError:
            return False
        return True
