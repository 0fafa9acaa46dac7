"""Stacks in homes of their own, and the real Claude Code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import claude_code as client
from support.stack import Stack


@pytest.fixture
def stack_home(tmp_path: Path) -> Iterator[Stack]:
    """A home for one test; what it started is ended."""
    home = Stack.in_folder(tmp_path / "home")
    yield home
    home.end()


@pytest.fixture(scope="session")
def demo_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running demo stack, shared by tests that only talk to it."""
    home = Stack.in_folder(tmp_path_factory.mktemp("demo") / "home")
    home.up()
    yield home
    home.end()


@pytest.fixture(scope="session")
def claude_code() -> Path:
    return client.program()
