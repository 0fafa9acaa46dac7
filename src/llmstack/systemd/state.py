"""systemd's words for a unit's life, in ours. A table and two pure functions.

Sources: systemctl(1), systemd.service(5) "Result=", org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

from llmstack.supervisor import ServiceState, ServiceStatus

PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "Result", "MainPID", "NRestarts", "NeedDaemonReload",
    "FragmentPath", "ExecMainStartTimestampMonotonic", "ExecMainCode", "ExecMainStatus", "MemoryCurrent",
    "MemoryMax", "UnitFileState", "Job",
)  # fmt: skip

_STATES = {
    "active": ServiceState.RUNNING,
    "reloading": ServiceState.RUNNING,
    "activating": ServiceState.STARTING,
    "deactivating": ServiceState.STOPPED,
    "inactive": ServiceState.STOPPED,
    "failed": ServiceState.FAILED,
}

# Result= of systemd.service(5); `exit-code`, `signal` and `core-dump` are told from the exit itself.
_RESULTS = {
    "oom-kill": "out of memory: the kernel killed it",
    "timeout": "it did not get ready or stop in time",
    "watchdog": "it stopped answering its watchdog",
    "start-limit-hit": "it died too often in a row",
    "resources": "systemd lacked the resources to start it",
    "protocol": "it ended before it said that it was ready",
}
# sd_is… exit statuses of systemd.exec(5) "PROCESS EXIT CODES": the program was never reached.
_SETUP_FAILURES = {
    200: "its working directory is missing",
    203: "its program cannot be run: missing or not executable",
    226: "its sandbox cannot be set up (namespaces are restricted here)",
    217: "its user cannot be resolved",
    209: "its output cannot be opened",
    218: "a capability it drops is not allowed here",
    228: "its system call filter cannot be set up",
}
_CLD_EXITED, _CLD_KILLED, _CLD_DUMPED = "1", "2", "3"


def status(name: str, properties: Mapping[str, str], now_monotonic_s: float) -> ServiceStatus:
    """One service from the output of `systemctl show`."""
    active = properties.get("ActiveState", "inactive")
    state = _STATES.get(active, ServiceState.STOPPED)
    if active == "inactive" and int(properties.get("Job") or 0):
        state = ServiceState.STARTING  # `start --no-block` only queued it: on a busy machine it has not begun yet
    failed_before = properties.get("Result", "success") != "success"
    if properties.get("SubState", "").startswith("auto-restart") or (active == "deactivating" and failed_before):
        state = ServiceState.BACKOFF
    pid = int(properties.get("MainPID") or 0) or None
    started_us = int(properties.get("ExecMainStartTimestampMonotonic") or 0)
    uptime = max(now_monotonic_s - started_us / 1e6, 0.0) if pid and started_us else None
    return ServiceStatus(
        name=name,
        state=state,
        pid=pid,
        uptime_s=uptime,
        restarts=int(properties.get("NRestarts") or 0),
        last_exit=last_exit(properties),
    )


def last_exit(properties: Mapping[str, str]) -> str | None:
    """How the service last died, as far as the manager still knows; None while all is well."""
    result = properties.get("Result", "success")
    if result == "success" and properties.get("ActiveState") in ("active", "activating", None):
        return None
    if result in _RESULTS and result != "start-limit-hit":
        return _RESULTS[result]
    ending = exit_text(properties.get("ExecMainCode", "0"), properties.get("ExecMainStatus", "0"), properties)
    if ending is not None and result != "success":
        return ending
    return _RESULTS.get(result)


def exit_text(code: str, status: str, properties: Mapping[str, str]) -> str | None:
    """code: CLD_EXITED, CLD_KILLED or CLD_DUMPED as a number; status: the exit status or the signal."""
    if not status.isdigit():
        return None
    number = int(status)
    if code == _CLD_EXITED:
        return _SETUP_FAILURES.get(number, f"exit status {number}")
    if code in (_CLD_KILLED, _CLD_DUMPED):
        if number == signal.SIGKILL and properties.get("MemoryMax", "infinity").isdigit():
            # With cgroup v1 systemd cannot tell; with v2 Result= is oom-kill and we never get here.
            return "killed (SIGKILL): out of memory, or a kill -9"
        return f"killed ({_signal_name(number)})"
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
