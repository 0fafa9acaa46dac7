"""Waits until a service answers, and tells a premature exit, a deadline and an abort apart."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from llmstack.deploy.causes import of_exit
from llmstack.engine.control import EngineClient, Readiness
from llmstack.errors import NotSo
from llmstack.supervisor import ServiceState, Supervisor

POLL_S = 0.05
_TELLING = re.compile(
    r"error|fail|unable|cannot|can't|invalid|unknown argument|out of memory|not found|abort|refus", re.I
)
_NEXT = {
    "server": "llmstack logs server   shows all of it; llmstack plan   checks what fits",
    "proxy": "llmstack logs proxy   shows all of it",
}


def wait_ready(
    supervisor: Supervisor,
    service: str,
    url: str,
    *,
    deadline_s: float,
    deaths_before: int = 0,
    waiting: Callable[[float], None] = lambda _: None,
) -> float:
    """Returns the seconds it took. `waiting` is called now and then with the seconds so far.

    deaths_before: how often the service had died when it was (re)started; one more is a premature exit.

    Raises NotSo with an excerpt of the service's log: when it died while starting, or when the deadline passed.
    """
    began = time.monotonic()
    began_at = time.time()
    with EngineClient(url) as client:
        while True:
            spent = time.monotonic() - began
            if client.readiness() is Readiness.READY:
                return spent
            status = supervisor.status().get(service)
            if (
                status is None
                or status.state in (ServiceState.FAILED, ServiceState.STOPPED)
                or (status.restarts > deaths_before)
            ):
                how = status.last_exit if status and status.last_exit else "it is not running"
                cause = of_exit(how)
                raise NotSo(
                    f"the {service} died while it was starting: {how}",
                    why=cause.what if cause is not None else excerpt(supervisor, service, began_at),
                    next=cause.next if cause is not None else _NEXT[service],
                )
            if spent > deadline_s:
                raise NotSo(
                    f"the {service} was not ready after {deadline_s:.0f} s",
                    why=excerpt(supervisor, service, began_at),
                    next=_NEXT[service],
                )
            waiting(spent)
            time.sleep(POLL_S)


def excerpt(supervisor: Supervisor, service: str, since_s: float, most: int = 4) -> str:
    """The log lines that say why: the first that speak of an error (the later ones only follow), else the last ones."""
    lines = last_words(supervisor, service, since_s)
    telling = [line for line in lines if _TELLING.search(line)]
    return "\n".join(telling[:most] or lines[-most:])


def last_words(supervisor: Supervisor, service: str, since_s: float) -> list[str]:
    """What the service itself wrote lately, oldest first."""
    lines = [line.text for line in supervisor.logs((service,), last=200, since_s=since_s - 1 if since_s else None)]
    return [line for line in lines if not line.startswith("llmstack: ")]
