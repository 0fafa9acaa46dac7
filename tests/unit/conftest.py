"""A unit test has no process, no socket and no sleep: whatever it needs of the world it is handed."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from support.world import Guard, out_of_reach

GUARD = pytest.StashKey[Guard]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Around fixtures too, those of a module or a session included."""
    with out_of_reach() as guard:
        item.stash[GUARD] = guard
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    touched = item.stash[GUARD].touched
    assert not touched, f"code under test did this and went on: it {', '.join(touched)}"
    return result
