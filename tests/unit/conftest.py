"""A unit test has no process, no socket and no sleep: whatever it needs of the world it is handed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.world import Guard, out_of_reach

HERE = Path(__file__).parent
GUARD = pytest.StashKey[Guard]()
HELD = pytest.StashKey[ExitStack]()  # what the guard holds back, until it is closed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """From the fixtures on."""
    if item.path.is_relative_to(HERE):
        item.stash[HELD] = stack = ExitStack()
        item.stash[GUARD] = stack.enter_context(out_of_reach())
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Behind the last test of a worker the fixtures of a whole session end, and those stop real services."""
    if HELD in item.stash:
        item.stash[HELD].close()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    touched = item.stash[GUARD].touched if GUARD in item.stash else []
    assert not touched, f"code under test did this and went on: it {', '.join(touched)}"
    return result
