"""How long a service has run is no matter of the wall clock."""

from __future__ import annotations

import os
import time

import pytest

from llmstack.process.files import Actual
from llmstack.process.supervisor import status_of
from llmstack.supervisor import ServiceState


def test_the_uptime_is_that_of_the_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: -1e9)
    entry = Actual(ServiceState.RUNNING, pid=os.getpid(), started=100.0, next_start=None)
    status = status_of("server", entry, 160.0)
    assert (status.state, status.uptime_s) == (ServiceState.RUNNING, 60.0)


def test_a_process_that_is_gone_is_not_shown_as_running() -> None:
    entry = Actual(ServiceState.RUNNING, pid=2**22 + 1, started=100.0)
    status = status_of("server", entry, 160.0)
    assert status.state is ServiceState.BACKOFF and status.pid is None and "could not write down" in status.trouble
