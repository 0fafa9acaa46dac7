"""`doctor --bundle`: what a bug report needs, in one archive, with secrets and names taken out."""

from __future__ import annotations

import io
import platform
import re
import socket
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from llmstack import __version__, stackfile
from llmstack.deploy.supervisors import supervisor_for
from llmstack.doctor.facts import DoctorFacts, DoctorReport
from llmstack.errors import BadInput, StackError
from llmstack.paths import Home, write_atomic

LOG_LINES = 1000
# Tokens by their usual shapes, and values of keys that name a secret.
_TOKENS = re.compile(r"\b(?:sk|hf|ghp|gho|github_pat|xoxb|AKIA)[-_][A-Za-z0-9_\-]{8,}")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=\-]{8,}")
_NAMED = re.compile(
    r"""(?ix) ([\w-]*(?:api[_-]?key|token|secret|password|authorization)["']?\s*[=:]\s*)
        ("[^"]*"|'[^']*'|[^\s,;}"']+)"""
)
_HIDDEN = "[removed]"
_KEPT_VALUES = re.compile(r"^[\"']?(?:\d+|true|false|null|none|)[\"']?$", re.I)


def redact(text: str, secrets: Mapping[str, str]) -> str:
    """Takes out given secrets (text to its replacement, longest first) and whatever looks like one."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 3:
            text = text.replace(secret, secrets[secret])
    text = _TOKENS.sub(_HIDDEN, text)
    text = _BEARER.sub(lambda match: f"{match[1]} {_HIDDEN}", text)
    return _NAMED.sub(lambda match: match[0] if _KEPT_VALUES.match(match[2]) else f"{match[1]}{_HIDDEN}", text)


def write(home: Home, facts: DoctorFacts, report: DoctorReport, path: Path) -> tuple[str, ...]:
    """Writes the archive (0600) and returns the names in it. Raises BadInput when it cannot be written."""
    secrets = _secrets(home)
    parts = {name: redact(text, secrets).encode() for name, text in _parts(home, facts, report).items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in parts.items():
            entry = tarfile.TarInfo(f"llmstack-report/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    try:
        write_atomic(path, buffer.getvalue(), 0o600)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None
    return tuple(parts)


def _parts(home: Home, facts: DoctorFacts, report: DoctorReport) -> dict[str, str]:
    parts = {
        "doctor.json": _json(report.to_json()),
        "facts.json": _json(facts),
        "versions.txt": f"llmstack {__version__}\npython {sys.version}\n{platform.platform()}\n",
    }
    for file in (home.stack, home.catalog, home.state / "engine.json", home.state / "crash.txt"):
        if file.is_file():
            parts[file.name] = file.read_text(encoding="utf-8", errors="replace")
    stack = stackfile.read(home)
    if stack is not None:
        supervisor = supervisor_for(home)
        try:
            lines = supervisor.logs([s.name for s in stack.services], last=LOG_LINES, since_s=None)
            parts["services.log"] = "".join(f"{line.time_s:.3f} {line.service} {line.text}\n" for line in lines)
        except StackError as error:
            parts["services.log"] = error.what
        parts |= _units(home)
    return parts


def _units(home: Home) -> dict[str, str]:
    from llmstack.systemd import SystemdSupervisor

    try:
        return SystemdSupervisor.of(home).installed()
    except StackError:
        return {}


def _secrets(home: Home) -> dict[str, str]:
    replacements: dict[str, str] = {}
    for file in (home.token, home.server_key):
        try:
            replacements[file.read_text().strip()] = _HIDDEN
        except OSError:
            continue
    for text, shown in ((str(Path.home()), "~"), (socket.gethostname(), "[host]")):
        if len(text) >= 4:
            replacements[text] = shown
    replacements.pop("localhost", None)
    return replacements


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
