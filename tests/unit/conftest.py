"""A unit test has no process, no socket and no sleep: whatever it needs of the world it is handed."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from support.world import Guard, out_of_reach

HERE = Path(__file__).parent
GUARD = pytest.StashKey[Guard]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Around fixtures too. pytest calls this one for the tests of other folders as well."""
    if not item.path.is_relative_to(HERE):
        return (yield)
    with out_of_reach() as guard:
        item.stash[GUARD] = guard
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    touched = item.stash[GUARD].touched if GUARD in item.stash else []
    assert not touched, f"code under test did this and went on: it {', '.join(touched)}"
    return result
