"""docs/limits.md is protocol/limits.py for people, and each limit is used."""

from __future__ import annotations

from llmstack.protocol.limits import LIMITS
from support.paths import DOCS, SOURCES


def test_the_document_is_the_table() -> None:
    rows = [line for line in (DOCS / "limits.md").read_text().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {limit.most:,} | {limit.what} | {limit.error} |" for name, limit in LIMITS.items()]


def test_every_limit_is_held() -> None:
    code = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    assert [name for name in LIMITS if f'most("{name}")' not in code and f'"{name}",' not in code] == []
