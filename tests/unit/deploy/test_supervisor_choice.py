"""Which supervisor a machine gets, and what the user is told about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack import paths, systemd
from llmstack.deploy import supervisors
from llmstack.errors import BadInput, MissingPart
from llmstack.process import ProcessSupervisor
from llmstack.supervisor import Service
from llmstack.systemd import SystemdSupervisor, manager
from llmstack.units import ChangeKind


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> paths.Home:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "stack"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("DBUS_SESSION_BUS_ADDRESS", "XDG_CONFIG_HOME", supervisors.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return paths.home()


def test_with_a_user_manager_it_gets_units(home: paths.Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "unavailable_because", lambda: None)
    chosen = supervisors.chosen(home, force=True)
    assert isinstance(chosen, SystemdSupervisor)
    assert chosen.force


def test_the_variable_decides_and_a_wrong_word_is_refused(home: paths.Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "unavailable_because", lambda: None)
    monkeypatch.setenv(supervisors.VARIABLE, "process")
    assert isinstance(supervisors.chosen(home), ProcessSupervisor)
    monkeypatch.setenv(supervisors.VARIABLE, "upstart")
    with pytest.raises(BadInput, match="upstart"):
        supervisors.chosen(home)


def test_asking_for_systemd_in_vain_says_why(home: paths.Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "unavailable_because", lambda: "no bus")
    monkeypatch.setenv(supervisors.VARIABLE, "systemd")
    with pytest.raises(MissingPart) as refused:
        supervisors.chosen(home)
    assert refused.value.why == "no bus"


def test_fault_26_without_lingering_the_exact_command_is_given(
    home: paths.Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "linger", lambda: False)
    told = supervisors.notices(SystemdSupervisor.of(home))
    assert len(told) == 1
    assert manager.linger_command() in told[0]
    assert manager.linger_command().startswith("loginctl enable-linger ")
    monkeypatch.setattr(systemd, "linger", lambda: True)
    assert supervisors.notices(SystemdSupervisor.of(home)) == ()


def test_lingering_is_read_from_its_file(tmp_path: Path) -> None:
    assert not manager.linger(tmp_path)
    (tmp_path / manager.user_name()).touch()
    assert manager.linger(tmp_path)


def test_our_own_supervisor_previews_changes_like_units(home: paths.Home) -> None:
    server = Service("server", "s", ("/bin/sleep", "600"), {"A": "1 2"})
    changes = supervisors.preview(ProcessSupervisor(home), [server]).changes
    assert [(change.unit, change.kind) for change in changes] == [("server", ChangeKind.ADDED)]
    assert "+A='1 2'" in changes[0].lines
