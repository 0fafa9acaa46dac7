"""How many connections are open: the limit, who makes room, and the gauge of /metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import StringIO

from llmstack.proxy.report import Reporter
from llmstack.proxy.server import ConnectionLimits


@dataclass
class FakeTransport:
    aborted: bool = False

    def abort(self) -> None:
        self.aborted = True


@dataclass(eq=False)
class FakeConnection:
    idle: bool = True
    transport: FakeTransport = field(default_factory=FakeTransport)


def test_the_longest_idle_makes_room_and_busy_ones_never() -> None:
    limits = ConnectionLimits(most=3)
    busy, first, second = FakeConnection(idle=False), FakeConnection(), FakeConnection()
    assert all(limits.admit(connection) for connection in (busy, first, second))
    limits.rest(first)  # it has just been answered: the other has been idle for longer
    assert limits.admit(FakeConnection(idle=False)) and second.transport.aborted and not first.transport.aborted
    assert limits.admit(FakeConnection(idle=False)) and first.transport.aborted
    assert not limits.admit(FakeConnection()) and not busy.transport.aborted
    assert limits.count == 3


def test_the_gauge_shows_what_is_open() -> None:
    reporter = Reporter(StringIO())
    limits = ConnectionLimits(on_change=reporter.connections.set)
    connections = [FakeConnection(), FakeConnection()]
    for connection in connections:
        limits.admit(connection)
    assert b"llmstack_connections 2.0" in reporter.metrics()
    limits.remove(connections[0])
    limits.remove(connections[0])
    limits.rest(connections[0])
    assert b"llmstack_connections 1.0" in reporter.metrics() and limits.count == 1
