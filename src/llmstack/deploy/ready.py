"""Waits until a service answers, and tells a premature exit, a deadline and an abort apart."""

from __future__ import annotations

import re
import time

from llmstack.commands import command_line
from llmstack.deploy.failure_causes import explain, of_exit
from llmstack.deploy.listener import not_ours, stranger
from llmstack.deploy.waiting import wait_until
from llmstack.engine.control import EngineClient, Readiness
from llmstack.errors import NotSo
from llmstack.supervisor import ServiceState, Supervisor

_TELLING = re.compile(
    r"error|fail|unable|cannot|can't|invalid|unknown argument|out of memory|not found|abort|refus", re.I
)

# llama.cpp's own mark of a line that is no error (common/log.cpp): the seconds since its start, and I or D.
_INFORMS = re.compile(r"\s*\d+(?:\.\d+)+ [ID] ")


def _next() -> dict[str, str]:
    return {
        "server": f"{command_line('logs', 'server')}   shows all of it; {command_line('plan')}   checks what fits",
        "proxy": f"{command_line('logs', 'proxy')}   shows all of it",
    }


def wait_ready(
    supervisor: Supervisor,
    service: str,
    url: str,
    *,
    deadline_s: float,
    deaths_before: int = 0,
    started_at: float | None = None,
) -> float:
    """Returns the seconds it took.

    started_at: when the service was told to start, in seconds since the epoch (None: now); what it says of its death
    may be older than the wait, for another service was waited for first.
    deaths_before: how often the service had died when it was (re)started; one more is a premature exit.

    Raises NotSo with an excerpt of the service's log: when it died while starting, or when the deadline passed. Raises
    it as well when another program answers in its place.
    """
    began = time.monotonic()
    began_at = time.time() if started_at is None else started_at

    def probe() -> bool | None:
        if client.readiness() is Readiness.READY:
            who = stranger(supervisor, url)
            if who is not None:
                raise not_ours(service, url, who)
            return True
        status = supervisor.status().get(service)
        is_down = status is None or status.state in (ServiceState.FAILED, ServiceState.STOPPED)
        if is_down or (status is not None and status.restarts > deaths_before):
            how = "it is not running" if is_down else "it ended and was started again"
            raise _died(supervisor, service, (status.last_exit if status is not None else None) or how, began_at)
        return None

    with EngineClient(url) as client:
        if wait_until(probe, deadline_s) is None:
            raise NotSo(
                f"the {service} was not ready after {deadline_s:.0f} s",
                why=excerpt(supervisor, service, began_at),
                next=_next()[service],
            )
    return time.monotonic() - began


def _died(supervisor: Supervisor, service: str, how: str, began_at: float) -> NotSo:
    lines = excerpt(supervisor, service, began_at)
    smaller = f"{command_line('plan')}   checks what fits"
    cause = explain(last_words(supervisor, service, began_at), how, smaller=smaller)
    why = lines
    if cause is not None:
        why = cause.what if of_exit(how) is not None or not cause.line else f"{cause.what}\n{lines}"
    return NotSo(
        f"the {service} died while it was starting: {how}",
        why=why,
        next=cause.next if cause is not None else _next()[service],
    )


def excerpt(supervisor: Supervisor, service: str, since_s: float, most: int = 4) -> str:
    """The log lines that say why: the first that speak of an error (the later ones only follow), else the last ones."""
    lines = last_words(supervisor, service, since_s)
    telling = [line for line in lines if _TELLING.search(line)]
    telling = [line for line in telling if not _INFORMS.match(line)] or telling
    return "\n".join(telling[:most] or lines[-most:])


def last_words(supervisor: Supervisor, service: str, since_s: float) -> list[str]:
    """What the service itself wrote lately, oldest first."""
    lines = [line.text for line in supervisor.logs((service,), last=200, since_s=since_s - 1 if since_s else None)]
    return [line for line in lines if not line.startswith("llmstack: ")]
