"""Checks of the client's side: Claude Code's version, settings and variables that lead it elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmstack.commands import command_line
from llmstack.doctor.facts import DoctorFacts
from llmstack.findings import Finding, Level

Version = tuple[int, ...]
CHECKED: tuple[Version, ...] = ((2, 1, 197), (2, 1, 332))  # the releases that the tests run, the newest last
OLDEST: Version = (2, 0, 0)
# What a release brought that matters on a stack, by the first one in which it was seen.
CHANGES: tuple[tuple[Version, str], ...] = (
    ((2, 1, 283), "its terminal starts in auto mode, whose check is a service of Anthropic's (switched off here)"),
    ((2, 1, 329), "it loads tools on its way, and no longer adds up the figures of a stream's signs of life"),
    ((2, 1, 332), "a tier above opus; it waits 300 s for the next event where it is not told otherwise"),
)
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
        yield Finding("claude", Level.OK, f"Claude Code {here.version} {_compared(version)}".rstrip())


def _compared(version: Version) -> str:
    """What is known of a release beside those that were checked."""
    newest = CHECKED[-1]
    if version > newest:
        return f"({_dotted(newest)} was checked; what a newer one sends besides is named in the proxy's log)"
    changes = [f"{_dotted(since)}: {change}" for since, change in CHANGES if version < since <= newest]
    return f"({_dotted(newest)} was checked too; changed since, {'; '.join(changes)})" if changes else ""


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


def parse_version(text: str) -> Version | None:
    match = re.match(r"\s*(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in match.groups()) if match else None


def _dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)


CHECKS = (claude_code, settings, environment)
