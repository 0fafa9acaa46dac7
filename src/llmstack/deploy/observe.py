"""What the running engine did: asked of its log, of /props and of the drivers, once for each start, and remembered.

A start is a process number and a time. A log grows to days of requests, so `status` reads it at its first look after a
start only; the answer is `served.json` beside the record.
"""

from __future__ import annotations

import contextlib
import platform
import time

import msgspec

from llmstack.deploy.load_log import LoadLog, lists_buffers, read_load
from llmstack.deploy.served import Served, compare, failure, intended, served_of
from llmstack.detect.held import family, vram_held_mib
from llmstack.engine.control import EngineClient
from llmstack.errors import NotSo, StackError
from llmstack.findings import Finding
from llmstack.paths import Home, write_private
from llmstack.stackfile import StackRecord
from llmstack.supervisor import ServiceStatus, Supervisor

_SAME_START_S = 5.0  # a supervisor's word for when a service started is rounded
_PROPS_S = 3.0


class _Remembered(msgspec.Struct):
    """started_at: seconds since the epoch."""

    pid: int
    started_at: float
    served: Served


def observed(home: Home, stack: StackRecord, supervisor: Supervisor) -> Served:
    """What the server's last start came to; a start that was looked at before is not looked at again."""
    server = supervisor.status().get("server")
    if server is None or server.pid is None:
        return Served()
    return observed_of(home, stack, supervisor, server)


def observed_of(home: Home, stack: StackRecord, supervisor: Supervisor, server: ServiceStatus) -> Served:
    if server.pid is None:
        return Served()
    started_at = time.time() - (server.uptime_s or 0.0)
    before = _remembered(home)
    if before is not None and before.pid == server.pid and abs(before.started_at - started_at) < _SAME_START_S:
        return before.served
    served = _look(home, stack, supervisor, server.pid, started_at)
    if served.n_ctx_slot is not None:  # it has answered, so it has loaded
        with contextlib.suppress(OSError):
            write_private(home.served, msgspec.json.encode(_Remembered(server.pid, started_at, served)))
    return served


def _remembered(home: Home) -> _Remembered | None:
    try:
        return msgspec.json.decode(home.served.read_bytes(), type=_Remembered)
    except (OSError, msgspec.DecodeError):
        return None


def _look(home: Home, stack: StackRecord, supervisor: Supervisor, pid: int, started_at: float) -> Served:
    props = {}
    with EngineClient(stack.server.url, home.server_key) as client, contextlib.suppress(NotSo):
        props = client.props(_PROPS_S)
    answers = served_of(props, LoadLog(), verbose=False, vram_mib=vram_held_mib(family({pid})))
    plan = intended(stack)
    if not plan.layers and (answers.n_ctx_slot or plan.n_ctx_slot) >= plan.n_ctx_slot:
        return answers  # the log has nothing to add, and may be days long
    try:
        lines = supervisor.logs(("server",), last=None, since_s=started_at - 1)
    except (OSError, StackError):
        lines = []
    log = read_load(line.text for line in lines)
    return served_of(props, log, verbose=lists_buffers(stack.server.argv), vram_mib=answers.vram_mib)


def is_wsl() -> bool:
    """Windows' own Linux: its kernel's release holds Microsoft's name."""
    return "microsoft" in platform.release().lower()


def findings_of(stack: StackRecord, served: Served) -> tuple[Finding, ...]:
    return compare(intended(stack, wsl=is_wsl()), served)


def require(home: Home, stack: StackRecord, supervisor: Supervisor) -> StackRecord:
    """The record with the engine's own figures, which is what clients and the proxy go by.

    Raises NotSo when the engine did not do what was planned.
    """
    served = observed(home, stack, supervisor)
    findings = findings_of(stack, served)
    worst = failure(findings)
    if worst is not None:
        raise as_error(worst)
    return with_served(stack, served)


def with_served(stack: StackRecord, served: Served) -> StackRecord:
    if served.n_ctx_slot is None:
        return stack
    return msgspec.structs.replace(stack, n_ctx_slot=served.n_ctx_slot)


def as_error(finding: Finding) -> NotSo:
    return NotSo(finding.finding, why=finding.cause, next=finding.remedy)
