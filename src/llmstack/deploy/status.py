"""The state of the stack, gathered from the record, the supervisor and the services themselves."""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmstack import stackfile
from llmstack.access.listed import KeyList
from llmstack.commands import command_line
from llmstack.deploy import client_keys, observe, tools_shown, transaction, usage
from llmstack.deploy import outdated as updates
from llmstack.deploy import warm as deploy_warm
from llmstack.deploy.failure_causes import explain
from llmstack.deploy.outdated import OutdatedService
from llmstack.deploy.reached_at import trouble, urls
from llmstack.deploy.ready import excerpt, last_words
from llmstack.deploy.routes_in_force import out_of_force
from llmstack.deploy.served import Served, failure
from llmstack.deploy.supervisors import supervisor_for
from llmstack.deploy.usage import Used
from llmstack.engine.control import EngineClient, Readiness
from llmstack.errors import BadInput, NotSo
from llmstack.findings import Finding
from llmstack.llama_server.last_words import last_words as last_fatal
from llmstack.paths import Home
from llmstack.stackfile import ProxyAlone, ProxyEntry, StackRecord
from llmstack.supervisor import ServiceState, ServiceStatus, Supervisor
from llmstack.web_settings import WebSettings, read_settings


class StackState(enum.StrEnum):
    READY = "ready"
    STARTING = "starting"
    DEGRADED = "degraded"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Warm:
    """How much of a prompt the server's slots hold; source: where that came from (slot, restored, computed, kept).

    done of `of` tokens are computed while state is "warming"; left_s: seconds that it will still take.
    """

    state: str  # "cold", "restoring", "warming" or "warm"
    prefix_tokens: int
    source: str | None
    done: int = 0
    of: int = 0
    left_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"state": self.state, "prefix_tokens": self.prefix_tokens, "source": self.source}
        return fields | ({"done": self.done, "of": self.of, "left_s": self.left_s} if self.of else {})


@dataclass(frozen=True, slots=True)
class StackStatus:
    """last_error: a line of the log; cause: what it means; next: the command that helps. used: against stack.plan.

    served: what the engine did at its last start; findings: where that is not what was planned. interrupted: an `up`
    was cut off and none runs now. bench: the last run, as `bench --json` gave it. refused: how many requests, prefixes
    and states the proxy keeps from the engine, because it died on them. hung: how often it was ended because it hung.
    out_of_force: what is wrong with the user's models.toml; barred: with the keys' file, or the certificate. keys: of
    others, None where nobody has looked. outdated: services that run files from before an update. alone: the proxy is
    deployed without a server; the stack is then what `up` would start. web: who searches it for side calls.
    """

    state: StackState
    stack: StackRecord | None
    services: Mapping[str, ServiceStatus]
    supervisor: str
    warm: Warm
    last_error: str = ""
    cause: str = ""
    next: str = ""
    used: Used = field(default_factory=Used)
    served: Served = field(default_factory=Served)
    findings: tuple[Finding, ...] = ()
    interrupted: bool = False
    bench: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    hung: int = 0
    out_of_force: tuple[str, ...] = ()
    alone: ProxyEntry | None = None
    keys: KeyList | None = None
    outdated: tuple[OutdatedService, ...] = ()
    barred: tuple[str, ...] = ()
    web: WebSettings = field(default_factory=WebSettings)

    @property
    def proxy(self) -> ProxyEntry | None:
        """Where the proxy listens, or would."""
        return self.alone or (self.stack.proxy if self.stack is not None else None)

    @property
    def hint(self) -> str:
        """The next command: what helps, else what one does in this state."""
        if self.next and not self.interrupted:
            return self.next
        if self.alone is not None:
            stopped = self.state is StackState.STOPPED
            return command_line("up", "--proxy-only") if stopped else command_line("claude", "--profile", "NAME")
        if self.stack is None:
            return f"{command_line('up', '--demo')}   or   {command_line('up', 'MODEL')}"
        if self.interrupted:
            return f"{command_line('up')}   finishes it"
        if self.state is StackState.READY and self.stack.capabilities.get("tools") is False:
            return f"{command_line('models', 'list')}   shows models that call tools"
        return {
            StackState.READY: command_line("claude"),
            StackState.STARTING: command_line("logs", "-f"),
            StackState.DEGRADED: command_line("logs", "-n", "50"),
            StackState.STOPPED: command_line("up"),
            StackState.FAILED: command_line("logs", "server", "-n", "50"),
        }[self.state]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the deployed model cannot do, or has otherwise than it was asked for, and what is not in force: a
        sentence each."""
        old = updates.sentence(self.outdated)
        around = (f"{old}: {updates.remedy(self.outdated)}" if old else "", *self.out_of_force, *self.barred)
        return tuple(filter(None, (*self.model_warnings, *around)))

    @property
    def model_warnings(self) -> tuple[str, ...]:
        if self.stack is None or self.alone is not None:
            return ()
        plan = self.stack.plan
        of_plan = plan.warnings if plan is not None else ()
        return tuple(filter(None, (tools_shown.missing(self.stack), *of_plan)))

    def to_json(self) -> dict[str, Any]:
        ports = {"server": self.stack.server.port} if self.stack else {}
        ports |= {"proxy": self.proxy.port} if self.proxy else {}
        return {
            "state": self.state.value,
            "url": self.proxy.url if self.proxy else None,
            "services": {
                name: {
                    "state": service.state.value,
                    "pid": service.pid,
                    "port": ports.get(name),
                    "uptime_s": round(service.uptime_s, 1) if service.uptime_s is not None else None,
                    "restarts": service.restarts,
                    "last_exit": service.last_exit,
                    "next_start_s": round(service.next_start_s, 1) if service.next_start_s is not None else None,
                    "trouble": service.trouble or None,
                }
                for name, service in self.services.items()
            },
            "supervisor": self.supervisor,
            "model": self.stack.model.name if self.stack and self.alone is None else None,
            "proxy_only": self.alone is not None,
            "listens": self.proxy
            and {
                "host": self.proxy.host,
                "port": self.proxy.port,
                "open": self.proxy.is_open,
                "allow_hosts": self.proxy.allow_hosts,
                "urls": urls(self.proxy),
                "tls": self.proxy.tls,
            },
            "outdated": [service.to_json() for service in self.outdated],
            "keys": [key.to_json() for key in self.keys.keys] if self.keys is not None else [],
            "web": {"search": self.web.service or None, "fetch": self.web.fetch},
            "warm": self.warm.to_json(),
            "last_error": self.last_error or None,
            "cause": self.cause or None,
            "next": self.hint,
            "used": {"ram_mib": self.used.ram_mib, "vram_mib": self.used.vram_mib},
            "interrupted": self.interrupted,
            "refused": dict(self.refused),
            "hung": self.hung,
            "served": self.served.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
            "n_ctx_slot": self.stack.n_ctx_slot if self.stack else None,
            "capabilities": self.stack.capabilities if self.stack else {},
            "warnings": list(self.warnings),
        }


def gather(home: Home) -> StackStatus:
    status = _gathered(home)
    deployed = stackfile.services(home)
    status = replace(status, outdated=updates.outdated(home, deployed, status.services, status.supervisor))
    barred = trouble(status.proxy)
    try:
        status = replace(status, web=read_settings(home))
    except BadInput as error:
        barred = (*barred, error.what)
    try:
        return replace(status, keys=client_keys.listed(home, time.time()), barred=barred)
    except BadInput as error:
        return replace(status, barred=(*barred, error.what))


def _gathered(home: Home) -> StackStatus:
    supervisor = supervisor_for(home)
    stack = stackfile.read(home)
    services = supervisor.status()
    interrupted = transaction.interrupted(home)
    alone = stackfile.read_alone(home)
    if alone is not None and not _lives(services, "server"):
        return _of_alone(home, alone, stack, supervisor, services)
    if stack is None and (home.stack.exists() or any(service.pid for service in services.values())):
        return _unrecorded(home, services, supervisor.kind)
    if stack is None or not services:
        return StackStatus(
            StackState.STOPPED, stack, services, supervisor.kind, _COLD,
            interrupted=interrupted, out_of_force=out_of_force(home),
        )  # fmt: skip
    server, warm = _ask_server(home, stack) if _lives(services, "server") else (Readiness.UNREACHABLE, _COLD)
    proxy = _ask_proxy(stack.proxy) if _lives(services, "proxy") else Readiness.UNREACHABLE
    refused: dict[str, int] = {}
    hung, is_hung = 0, False
    if proxy is Readiness.READY:
        report = deploy_warm.health(stack)
        warm, refused = _kept(report.get("warm") or {}, warm), report.get("deadly") or {}
        hung, is_hung = report.get("hung", 0), (report.get("upstreams") or {}).get("local") == "hung"
    state = health_of(services, server, proxy)
    served, trouble = Served(), _refusing(supervisor, refused)
    findings: tuple[Finding, ...] = ()
    if server is Readiness.READY and not home.transaction.exists():  # an `up` at work compares by itself
        served = observe.observed_of(home, stack, supervisor, services["server"])
        findings = observe.findings_of(stack, served)
        stack = observe.with_served(stack, served)
    worst = failure(findings)
    if worst is not None and state is StackState.READY:
        state, trouble = StackState.DEGRADED, _Trouble("", f"{worst.finding}: {worst.cause}", worst.remedy)
    elif state in (StackState.FAILED, StackState.DEGRADED):
        trouble = _tell(supervisor, stack, services)
    if is_hung and state in (StackState.STARTING, StackState.DEGRADED):
        state, trouble = StackState.DEGRADED, _hung()
    return StackStatus(
        state, stack, services, supervisor.kind, warm, trouble.line, trouble.cause, trouble.next,
        used=usage.used([status.pid for status in services.values() if status.pid]),
        served=served,
        findings=findings,
        interrupted=interrupted,
        bench=usage.last_bench(home),
        refused=refused,
        hung=hung,
        out_of_force=out_of_force(home),
    )  # fmt: skip


def _of_alone(
    home: Home,
    alone: ProxyAlone,
    stack: StackRecord | None,
    supervisor: Supervisor,
    services: Mapping[str, ServiceStatus],
) -> StackStatus:
    services = {name: service for name, service in services.items() if name == "proxy"}
    readiness = _ask_proxy(alone.proxy) if _lives(services, "proxy") else Readiness.UNREACHABLE
    # Of a server that is not deployed, it is in order that it does not answer; the proxy says so as LOADING.
    answers = readiness is not Readiness.UNREACHABLE
    state = health_of(services, Readiness.READY, Readiness.READY if answers else readiness)
    trouble = _Trouble()
    if state in (StackState.FAILED, StackState.DEGRADED):
        words = excerpt(supervisor, "proxy", 0.0, most=1)
        trouble = _Trouble(words, services["proxy"].last_exit or "", command_line("logs", "proxy", "-n", "50"))
    return StackStatus(
        state, stack, services, supervisor.kind, _COLD, trouble.line, trouble.cause, trouble.next,
        used=usage.used([status.pid for status in services.values() if status.pid]),
        out_of_force=out_of_force(home),
        alone=alone.proxy,
    )  # fmt: skip


def _unrecorded(home: Home, services: Mapping[str, ServiceStatus], supervisor: str) -> StackStatus:
    """There is no record that can be read of what is deployed, though services run or a file is there."""
    lives = any(service.pid for service in services.values())
    how = "is damaged" if home.stack.exists() else "is gone"
    return StackStatus(
        StackState.DEGRADED if lives else StackState.STOPPED, None, services, supervisor, _COLD,
        cause=f"the record of the deployed stack {how}: {home.stack}",
        next=f"{command_line('up', 'MODEL')}   writes it anew",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Trouble:
    line: str = ""
    cause: str = ""
    next: str = ""


def _hung() -> _Trouble:
    cause = "the server hangs: its process is there and does not answer; it is ended within half a minute"
    return _Trouble("", cause, command_line("status", "--watch"))


def _tell(supervisor: Supervisor, stack: StackRecord, services: Mapping[str, ServiceStatus]) -> _Trouble:
    """The last error of the service that is worst off, and what it means."""
    worst = sorted(services.values(), key=lambda s: (s.state is not ServiceState.FAILED, s.last_exit is None))[0]
    if worst.last_exit is None:
        return _Trouble()
    lines = _since_last_start(last_words(supervisor, worst.name, 0.0))
    smaller = command_line("up", stack.model.name, "--ctx", max(stack.n_ctx_slot // 2, 4096))
    cause = explain(lines, worst.last_exit, smaller=smaller)
    line = cause.line if cause is not None and cause.line else excerpt(supervisor, worst.name, 0.0, most=1)
    if cause is None:
        return _Trouble(line, worst.last_exit, command_line("logs", worst.name, "-n", "50"))
    return _Trouble(line, f"{worst.name}: {cause.what}", cause.next)


def _refusing(supervisor: Supervisor, refused: Mapping[str, int]) -> _Trouble:
    """What the engine died on again and again, so that the proxy asks it no more (proxy/engine_deaths.py)."""
    if not refused:
        return _Trouble()
    requests = refused.get("requests", 0)
    if requests:
        cause = f"the engine died on {requests} request{'s' if requests > 1 else ''}, which the proxy refuses now"
    elif refused.get("prefixes"):
        cause = "the engine died while a prefix was computed, which is left out now"
    else:
        cause = "the engine died while a state was saved or restored, which is left out now"
    words = last_fatal(last_words(supervisor, "server", 0.0))
    return _Trouble(words, cause, f"{command_line('restart', 'server')}   lets it be tried again")


def _since_last_start(lines: list[str]) -> list[str]:
    """The lines of the last run: a service that worked for days has older errors in its log."""
    starts = [number for number, line in enumerate(lines) if _START.search(line)]
    return lines[starts[-1] :] if starts else lines


# The first line of llama-server's own (server.cpp) and of the proxy's log.
_START = re.compile(r"(?:init|llama_server): initializing|build_info:|\"event\":\"start\"")

_COLD = Warm("cold", 0, None)


def health_of(services: Mapping[str, ServiceStatus], server: Readiness, proxy: Readiness) -> StackState:
    """One word for both services. Degraded: something that should answer does not, but not all is lost."""
    states = [status.state for status in services.values()]
    if all(state is ServiceState.STOPPED for state in states):
        return StackState.STOPPED
    if ServiceState.FAILED in states:
        return StackState.FAILED
    if server is Readiness.READY and proxy is Readiness.READY:
        return StackState.READY
    if ServiceState.BACKOFF in states or ServiceState.STOPPED in states:
        return StackState.DEGRADED
    return StackState.STARTING


def _lives(services: Mapping[str, ServiceStatus], name: str) -> bool:
    status = services.get(name)
    return status is not None and status.pid is not None


def _ask_server(home: Home, stack: StackRecord) -> tuple[Readiness, Warm]:
    with EngineClient(stack.server.url, home.server_key) as client:
        readiness = client.readiness()
        if readiness is not Readiness.READY:
            return readiness, _COLD
        try:
            held = max((int(slot.get("n_prompt_tokens", 0)) for slot in client.slots()), default=0)
        except NotSo:  # busy with one long batch: the next look will tell
            return readiness, _COLD
        return readiness, Warm("warm", held, "slot") if held else _COLD


def _kept(report: Mapping[str, Any], seen: Warm) -> Warm:
    """What the proxy knows of it, where that says more than the slots."""
    state = str(report.get("state", ""))
    if state in ("restoring", "warming"):
        left = report.get("left_s")
        return Warm(
            state, int(report["prefix_tokens"]), report["source"], report.get("done", 0), report.get("of", 0), left
        )
    if state == "warm" and seen.state == "warm":
        return Warm("warm", seen.prefix_tokens, report["source"] or seen.source)
    return seen


def _ask_proxy(proxy: ProxyEntry) -> Readiness:
    with EngineClient(proxy.url) as client:
        return client.readiness()
