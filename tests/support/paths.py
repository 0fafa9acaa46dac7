"""Where the checkout is, whatever the current folder."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
SOURCES = ROOT / "src"
PACKAGE = SOURCES / "llmstack"
DOCS = ROOT / "docs"
LOCK = ROOT / "lock"
TEMPLATES = ROOT / "templates"
CATALOG = ROOT / "models.toml"
