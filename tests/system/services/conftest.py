"""One user manager for the tests of this folder; each test gets a clean set of units."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmstack import paths
from llmstack.systemd import SystemdSupervisor, suffix_of
from support import user_manager


@pytest.fixture(scope="session")
def session_manager() -> Iterator[user_manager.UserManager]:
    user_manager.install()
    with user_manager.journald():
        manager = user_manager.UserManager()
        try:
            manager.start()
            yield manager
        finally:
            manager.close()


@pytest.fixture
def manager(session_manager: user_manager.UserManager, monkeypatch: pytest.MonkeyPatch) -> user_manager.UserManager:
    """The manager, with this process's environment set so that llmstack reaches it and no other."""
    for name, value in session_manager.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return session_manager


@pytest.fixture
def home(manager: user_manager.UserManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> paths.Home:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "stack"))
    return paths.home().make()


@pytest.fixture
def supervisor(home: paths.Home, tmp_path: Path) -> Iterator[SystemdSupervisor]:
    made = SystemdSupervisor.of(home)
    assert made.suffix == suffix_of(str(tmp_path / "stack"))
    yield made
    made.force = True
    made.remove()
