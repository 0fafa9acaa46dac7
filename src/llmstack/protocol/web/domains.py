"""Allowed and blocked domains of a tool (Anthropic, "Web search tool", "Domain filtering").

| entry                    | stands for                                                       |
| ------------------------ | ---------------------------------------------------------------- |
| `example.com`            | that host and every host below it                                |
| `docs.example.com`       | the same, one further down                                       |
| `example.com/blog`       | that path and everything below it                                |
| `example.com/*/articles` | one `*`, in the path: any characters                             |
| `https://example.com`    | refused: no scheme, no port, no `*` in the host                  |
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from llmstack.protocol.limits import most
from llmstack.protocol.web.refusal import invalid_input

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")


@dataclass(frozen=True, slots=True)
class DomainRule:
    """host: in ASCII. path: of an address that is covered, None for any; as it was written in `written`, or ""."""

    host: str
    path: re.Pattern[str] | None = None
    written: str = ""

    def covers(self, host: str, path: str) -> bool:
        if host != self.host and not host.endswith(f".{self.host}"):
            return False
        return self.path is None or self.path.match(path) is not None


@dataclass(frozen=True, slots=True)
class DomainRules:
    """At most one of both lists has entries."""

    allowed: tuple[DomainRule, ...] = ()
    blocked: tuple[DomainRule, ...] = ()

    def permit(self, url: str) -> bool:
        parts = urlsplit(url)
        host, path = ascii_host(parts.hostname or ""), _plain_path(parts.path)
        if self.allowed and not any(rule.covers(host, path) for rule in self.allowed):
            return False
        return not any(rule.covers(host, path) for rule in self.blocked)


def domain_rules(allowed: Any, blocked: Any) -> DomainRules:
    """Of a tool's two fields; an empty list is none. Raises WebRefused."""
    if allowed and blocked:
        raise invalid_input("allowed_domains and blocked_domains cannot be used together; leave one of them out.")
    return DomainRules(_rules("allowed_domains", allowed), _rules("blocked_domains", blocked))


def ascii_host(host: str) -> str:
    """A host's name as the DNS knows it: lower case, no dot at the end, international letters encoded."""
    host = host.rstrip(".").lower()
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def _rules(name: str, value: Any) -> tuple[DomainRule, ...]:
    if not value:
        return ()
    if not isinstance(value, list) or len(value) > most("web_domains"):
        raise invalid_input(f"{name} must be a list of at most {most('web_domains')} domains.")
    return tuple(_rule(name, entry) for entry in value)


def _rule(name: str, entry: Any) -> DomainRule:
    if isinstance(entry, str) and len(entry) <= 300:
        host, slash, path = entry.strip().partition("/")
        host = ascii_host(host)
        if _HOST.match(host) and path.count("*") <= 1 and not any(char in path for char in "?#\\"):
            path = _plain_path(slash + path).rstrip("/")
            if not path:
                return DomainRule(host)
            pattern = ".*".join(re.escape(part) for part in path.split("*"))
            return DomainRule(host, re.compile(rf"{pattern}(?:/|\Z)", re.DOTALL), path)
    raise invalid_input(
        f"{name} has an entry that is no domain: write example.com or example.com/path, without a scheme and a port;"
        " one * may stand in the path."
    )


def _plain_path(path: str) -> str:
    """A path as a server takes it: decoded, `.` and `..` resolved, one slash at a time."""
    path = posixpath.normpath("/" + unquote(path)) if path else "/"
    return "/" + path.lstrip("/")
