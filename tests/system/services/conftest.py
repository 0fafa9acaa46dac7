"""One user manager for the tests of this folder; each test gets a clean set of units."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmstack import paths
from llmstack.deploy.demo_model import ensure_demo_model
from llmstack.systemd import SystemdSupervisor, suffix_of
from support import user_manager
from support.stack import Stack

KINDS = ("systemd", "process")


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


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Which supervisor `up` finds: a user manager that answers, or none."""
    if request.param == "systemd":
        request.getfixturevalue("manager")
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "no-manager"))
        monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    return str(request.param)


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, written once for all tests of this folder."""
    folder = tmp_path_factory.mktemp("model")
    home = paths.Home(*(folder / name for name in ("config", "state", "data", "cache")))
    return ensure_demo_model(home.make())


@pytest.fixture
def stack(kind: str, stack_home: Stack, demo_model: Path) -> Iterator[Stack]:
    """A home under that supervisor; nothing of it is left afterwards."""
    yield stack_home.with_model(demo_model)
    stack_home.run("uninstall", "--yes")
