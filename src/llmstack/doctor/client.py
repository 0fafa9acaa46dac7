"""Checks of the client's side: Claude Code's version, settings and variables that lead it elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmstack.commands import command_line
from llmstack.doctor.facts import DoctorFacts
from llmstack.findings import Finding, Level

TESTED = (2, 1, 197)  # the release whose requests were observed
OLDEST = (2, 0, 0)
_INSTALL = "npm install -g @anthropic-ai/claude-code"


def claude_code(facts: DoctorFacts) -> Iterator[Finding]:
    here = facts.client
    if here.program is None:
        yield Finding("claude", Level.WARN, "Claude Code is not on PATH", "", _INSTALL)
        return
    version = parse_version(here.version)
    if version is None:
        yield Finding("claude", Level.WARN, f"{here.program} does not tell its version", here.version, _INSTALL)
    elif version < OLDEST:
        yield Finding(
            "claude", Level.WARN, f"Claude Code {here.version} is older than {_dotted(OLDEST)}",
            "it lacks the variables that set the context of a local model", f"{_INSTALL}@latest",
        )  # fmt: skip
    else:
        newer = f" (tested with {_dotted(TESTED)})" if version > TESTED else ""
        yield Finding("claude", Level.OK, f"Claude Code {here.version}{newer}")


def settings(facts: DoctorFacts) -> Iterator[Finding]:
    here = facts.client
    for file in here.broken_settings:
        yield Finding(
            "claude settings", Level.WARN, f"{file} is not valid JSON", "Claude Code ignores it", f"edit {file}"
        )
    for file, keys in (here.settings or {}).items():
        yield Finding(
            "claude settings", Level.FAIL, f"{file} sets {', '.join(keys)}",
            "settings win over the environment, so requests go elsewhere or with another token",
            f"remove them from {file}",
        )  # fmt: skip
    if here.program and not here.settings:
        yield Finding("claude settings", Level.OK, "nothing in its settings leads elsewhere")


def environment(facts: DoctorFacts) -> Iterator[Finding]:
    here = facts.client
    for name, why in (here.environment or {}).items():
        yield Finding(
            "client environment", Level.WARN, f"{name} is set in this shell: {why}", "",
            f"unset {name}   (`{command_line('claude')}` leaves it out by itself)",
        )  # fmt: skip
    if here.token_matches is False:
        yield Finding(
            "client environment", Level.FAIL, "ANTHROPIC_AUTH_TOKEN in this shell is not this stack's token",
            "the proxy will answer 401", f'eval "$({command_line("env")})"',
        )  # fmt: skip
    if here.proxy_variables and not here.no_proxy_covers:
        yield Finding(
            "NO_PROXY", Level.FAIL, f"{', '.join(here.proxy_variables)} is set and NO_PROXY does not cover 127.0.0.1",
            "clients send requests for this machine to that proxy: connection refused, or an answer from elsewhere",
            'export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"',
        )  # fmt: skip
    elif here.proxy_variables:
        yield Finding("NO_PROXY", Level.OK, "this machine is left out of the proxy")


def parse_version(text: str) -> tuple[int, ...] | None:
    match = re.match(r"\s*(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in match.groups()) if match else None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


CHECKS = (claude_code, settings, environment)
