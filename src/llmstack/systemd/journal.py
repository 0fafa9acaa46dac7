"""Log lines of our services out of journald, by SyslogIdentifier.

`--user-unit` is no filter to rely on: it needs `_SYSTEMD_USER_UNIT`, which is missing where the manager
runs outside user@.service (containers).
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from llmstack.supervisor import LogLine
from llmstack.systemd import manager

# "Unit process exited" (systemd/sd-messages.h): carries EXIT_CODE and EXIT_STATUS of every death.
PROCESS_EXIT = "98e322203f7a4ed290d09fe03c09fe15"
_FIELDS = "MESSAGE,SYSLOG_IDENTIFIER,__REALTIME_TIMESTAMP"


def read(
    identifiers: Mapping[str, str], *, last: int | None, since_s: float | None, boot: bool = False
) -> list[LogLine]:
    """Lines of the services, oldest first. identifiers: SyslogIdentifier to service name."""
    if not identifiers:
        return []
    command = _command(identifiers)
    if last is not None:
        command += ["--lines", str(last)]
    if since_s is not None:
        command += ["--since", f"@{since_s:.6f}"]
    if boot:
        command += ["--boot"]
    done = subprocess.run(
        command, env=manager.environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return [line for raw in done.stdout.split(b"\n") if (line := parse(raw, identifiers)) is not None]


def follow(identifiers: Mapping[str, str]) -> Iterator[LogLine]:
    """Lines from the moment of this call on, none left out; journalctl ends with the iterator."""
    return _following(identifiers, time.time())


def _following(identifiers: Mapping[str, str], since_s: float) -> Iterator[LogLine]:
    process = subprocess.Popen(
        [*_command(identifiers), "--follow", "--no-tail", "--since", f"@{since_s:.6f}"],
        env=manager.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        for raw in process.stdout:
            line = parse(raw, identifiers)
            if line is not None:
                yield line
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def last_death(unit: str) -> tuple[str, str] | None:
    """(EXIT_CODE, EXIT_STATUS) of the unit's latest death in the journal, as journald words them."""
    done = subprocess.run(
        ["journalctl", "--quiet", "--output", "json", "--lines", "1", f"MESSAGE_ID={PROCESS_EXIT}",
         f"USER_UNIT={unit}"],
        env=manager.environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    record = _decode(done.stdout.strip())
    if record is None:
        return None
    return str(record.get("EXIT_CODE", "")), str(record.get("EXIT_STATUS", ""))


def parse(raw: bytes, identifiers: Mapping[str, str]) -> LogLine | None:
    """One line of `journalctl --output json`; None for what is not a line of ours."""
    record = _decode(raw)
    if record is None:
        return None
    service = identifiers.get(str(record.get("SYSLOG_IDENTIFIER", "")))
    stamp = record.get("__REALTIME_TIMESTAMP")
    if service is None or stamp is None:
        return None
    return LogLine(int(stamp) / 1e6, service, _text(record.get("MESSAGE")))


def _command(identifiers: Mapping[str, str]) -> list[str]:
    matches: Sequence[str] = [f"SYSLOG_IDENTIFIER={identifier}" for identifier in sorted(identifiers)]
    return ["journalctl", "--quiet", "--all", "--output", "json", f"--output-fields={_FIELDS}", *matches]


def _decode(raw: bytes) -> dict[str, Any] | None:
    if not raw.strip():
        return None
    try:
        record = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return record if isinstance(record, dict) else None


def _text(message: Any) -> str:
    """journalctl gives bytes that are not plain text (colours among them) as a list of numbers."""
    if isinstance(message, list):
        return bytes(b for b in message if isinstance(b, int)).decode("utf-8", "replace")
    return "" if message is None else str(message)
