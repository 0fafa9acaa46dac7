"""Which supervisor a machine gets, asked of the machine itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack import paths
from llmstack.deploy import supervisors
from llmstack.process import ProcessSupervisor
from llmstack.systemd import manager


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> paths.Home:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "stack"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("DBUS_SESSION_BUS_ADDRESS", "XDG_CONFIG_HOME", supervisors.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return paths.home()


def test_fault_25_without_a_bus_the_stack_gets_its_own_supervisor(home: paths.Home) -> None:
    assert manager.unavailable_because()
    assert isinstance(supervisors.chosen(home), ProcessSupervisor)


def test_fault_27_a_journald_that_does_not_answer_is_noticed(tmp_path: Path) -> None:
    assert not manager.journal_answers(tmp_path / "stdout")
    (tmp_path / "stdout").touch()
    assert not manager.journal_answers(tmp_path / "stdout")
