"""systemd's words become ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.supervisor import ServiceState
from llmstack.systemd import filelog, journal, suffix_of
from llmstack.systemd.files import UnitFolder
from llmstack.systemd.state import status
from llmstack.units import mark


def shown(**properties: str) -> dict[str, str]:
    return {"ActiveState": "active", "SubState": "running", "Result": "success", **properties}


@pytest.mark.parametrize(
    ("properties", "state", "last_exit"),
    [
        (shown(MainPID="7"), ServiceState.RUNNING, None),
        (shown(ActiveState="activating", SubState="start"), ServiceState.STARTING, None),
        (
            shown(ActiveState="activating", SubState="auto-restart", Result="exit-code", ExecMainCode="1",
                  ExecMainStatus="3"),
            ServiceState.BACKOFF,
            "exit status 3",
        ),
        (shown(ActiveState="failed", Result="oom-kill", ExecMainCode="2", ExecMainStatus="9"), ServiceState.FAILED,
         "out of memory: the kernel killed it"),
        (shown(ActiveState="failed", Result="signal", ExecMainCode="2", ExecMainStatus="9"), ServiceState.FAILED,
         "killed (SIGKILL)"),
        (shown(ActiveState="failed", Result="signal", ExecMainCode="2", ExecMainStatus="9", MemoryMax="1048576"),
         ServiceState.FAILED, "killed (SIGKILL): out of memory, or a kill -9"),
        (shown(ActiveState="failed", Result="exit-code", ExecMainCode="1", ExecMainStatus="203"), ServiceState.FAILED,
         "its program cannot be run: missing or not executable"),
        (shown(ActiveState="failed", Result="watchdog", ExecMainCode="2", ExecMainStatus="6"), ServiceState.FAILED,
         "it stopped answering its watchdog"),
        (shown(ActiveState="failed", Result="start-limit-hit"), ServiceState.FAILED, "it died too often in a row"),
        (shown(ActiveState="inactive", SubState="dead"), ServiceState.STOPPED, None),
        (shown(ActiveState="inactive", SubState="dead", Job="812"), ServiceState.STARTING, None),  # queued, not begun
        (shown(ActiveState="deactivating", SubState="stop-sigterm"), ServiceState.STOPPED, None),
        (shown(ActiveState="deactivating", SubState="stop-sigterm", Result="signal"), ServiceState.BACKOFF, None),
        ({}, ServiceState.STOPPED, None),
    ],
)  # fmt: skip
def test_a_units_state_and_last_exit(properties: dict[str, str], state: ServiceState, last_exit: str | None) -> None:
    found = status("server", properties, 100.0)
    assert (found.state, found.last_exit) == (state, last_exit)


def test_uptime_counts_from_the_main_process() -> None:
    found = status("server", shown(MainPID="7", ExecMainStartTimestampMonotonic="40000000", NRestarts="2"), 100.0)
    assert (found.pid, found.uptime_s, found.restarts) == (7, 60.0, 2)


def test_a_suffix_belongs_to_one_home() -> None:
    assert suffix_of(None) == suffix_of("") == ""
    assert suffix_of("/a") == suffix_of("/a/") != suffix_of("/b")
    assert len(suffix_of("/a")) == 9


def test_journal_lines_are_read_whatever_bytes_they_hold() -> None:
    names = {"llmstack-server": "server"}
    plain = b'{"SYSLOG_IDENTIFIER":"llmstack-server","__REALTIME_TIMESTAMP":"1500000","MESSAGE":"hi"}'
    line = journal.parse(plain, names)
    assert line is not None and (line.time_s, line.service, line.text) == (1.5, "server", "hi")
    coloured = journal.parse(plain.replace(b'"hi"', b"[27,91,109,255]"), names)
    assert coloured is not None and coloured.text == "\x1b[m\ufffd"
    for broken in (b"", b"{", b"[]", b'{"SYSLOG_IDENTIFIER":"other"}', plain.replace(b'"1500000"', b"null")):
        assert journal.parse(broken, names) is None


def test_the_default_home_does_not_see_units_of_another_home(tmp_path: Path) -> None:
    for name in ("llmstack-server", "llmstack-server-1a2b3c4d", "llmstack-proxy", "other"):
        (tmp_path / f"{name}.service").write_text(mark("[Service]\n"))
    assert set(UnitFolder(tmp_path, "", tmp_path / "made").installed()) == {
        "llmstack-proxy.service",
        "llmstack-server.service",
    }
    assert set(UnitFolder(tmp_path, "-1a2b3c4d", tmp_path / "made").installed()) == {"llmstack-server-1a2b3c4d.service"}


def test_folders_that_had_to_be_made_are_removed_again(tmp_path: Path) -> None:
    folder = UnitFolder(tmp_path / "config" / "systemd" / "user", "", tmp_path / "state" / "made")
    folder.write("llmstack-server.service", mark("x"))
    folder.delete("llmstack-server.service")
    (tmp_path / "config" / "mine").touch()
    folder.forget()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["config", "mine", "state"]


def test_a_crash_while_writing_leaves_no_temporary_file_for_good(tmp_path: Path) -> None:
    folder = UnitFolder(tmp_path, "", tmp_path / "made")
    (tmp_path / ".llmstack-server.service.123").write_text("half")
    folder.sweep()
    assert list(tmp_path.iterdir()) == []


def test_a_large_log_file_is_rotated_and_old_ones_fall_off(tmp_path: Path) -> None:
    log = filelog.path(tmp_path, "server")
    for round_number in range(6):
        log.write_text(f"round {round_number}\n")
        assert filelog.rotate(tmp_path, "server", limit=3)
    assert not log.exists()
    texts = [line.text for line in filelog.read(tmp_path, ["server"], last=None, since_s=None)]
    assert texts == ["round 3", "round 4", "round 5"]
    log.write_text("x")
    assert not filelog.rotate(tmp_path, "server", limit=3)


def test_following_a_file_loses_no_line_over_its_rotation(tmp_path: Path) -> None:
    log = filelog.path(tmp_path, "server")
    log.write_text("before\n")
    tail = filelog._Tail(tmp_path, "server")
    with log.open("a") as stream:
        stream.write("one\ntw")
        stream.flush()
        assert [line.text for line in tail.lines()] == ["one"]
        stream.write("o\nthree\n")
    filelog.rotate(tmp_path, "server", limit=0)
    log.write_text("four\n")
    assert [line.text for line in tail.lines()] == ["two", "three", "four"]
    tail.close()
