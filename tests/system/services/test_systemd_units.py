"""Units meet a real user manager: argv and environment arrive byte for byte, states are told as they are."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmstack import paths
from llmstack.errors import NotSo
from llmstack.supervisor import Service, ServiceState
from llmstack.systemd import SystemdSupervisor
from support.user_manager import UserManager
from support.wait import eventually

ECHO = (
    "import json,os,sys,time; f=sys.argv[1]; t=open(f+'.tmp','w');"
    "t.write(json.dumps([sys.argv[2:], dict(os.environ)]));"
    "t.close(); os.rename(f+'.tmp', f); time.sleep(600)"
)


COUNTER = itertools.count()


def sleeper(name: str = "server", **more: object) -> Service:
    return Service(name, f"llmstack {name}", ("/bin/sleep", "600"), **more)  # type: ignore[arg-type]


def reported(supervisor: SystemdSupervisor, argv: list[str], env: dict[str, str]) -> list[object]:
    """Runs a service with this argv under systemd and returns the argv and environment it saw."""
    file = supervisor.home.cache / f"seen-{next(COUNTER)}.json"  # all that a server may write
    file.parent.mkdir(parents=True, exist_ok=True)
    service = Service("server", "echo", (sys.executable, "-c", ECHO, str(file), *argv), env=env)
    supervisor.apply([service])
    eventually(file.exists, "the service wrote what it was given")
    seen: list[object] = json.loads(file.read_text())
    return seen


@pytest.mark.parametrize(
    "argument",
    [
        "a b", "", "%h", "%%", "$HOME", "${HOME}", "$$", "'", '"', "\\", "\\n", "a\\", ";", "a;b", "#", "-x=y z",
        "tab\there", "ende\r", "grüße 模型 🦙", "\x01\x7f", "`id`", "$(id)", "*", "~", "@x", "  lead", "trail  ",
        "\u00a0", "\u2028", "{{ 7*7 }}", "%n$s%i", "C:\\new\\table",
    ],
)  # fmt: skip
def test_an_argument_arrives_in_the_process_as_it_was_given(supervisor: SystemdSupervisor, argument: str) -> None:
    seen = reported(supervisor, [argument, "end"], {})
    assert seen[0] == [argument, "end"]


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cn"), exclude_characters="\n\0"), max_size=40) | st.text(
    st.sampled_from(" %$\"'\\;#{}ab\t\r=-~é模"), max_size=20
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    argv=st.lists(TEXT, min_size=1, max_size=8), value=st.text(st.characters(exclude_categories=("C",)), max_size=30)
)
def test_any_argv_and_variable_survive_systemds_own_parser(
    supervisor: SystemdSupervisor, argv: list[str], value: str
) -> None:
    seen = reported(supervisor, argv, {"GIVEN": value})
    assert seen[0] == argv
    environment = seen[1]
    assert isinstance(environment, dict)
    assert environment["GIVEN"] == value


@pytest.mark.parametrize("folder", ["with space", "100%n", "a$HOME", "ünï", "semi;colon", "#hash"])
def test_a_program_runs_from_a_folder_with_odd_characters(
    supervisor: SystemdSupervisor, tmp_path: Path, folder: str
) -> None:
    place = tmp_path / folder
    place.mkdir()
    program = place / "sleep here"
    program.symlink_to("/bin/sleep")
    supervisor.apply([Service("server", "odd", (str(program), "600"), working_directory=place)])
    eventually(lambda: supervisor.status()["server"].state is ServiceState.RUNNING, "it runs")
    pid = supervisor.status()["server"].pid
    eventually(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(os.fsencode(program)), "its own program")
    assert Path(f"/proc/{pid}/cwd").resolve() == place.resolve()


def test_the_server_finds_no_key_of_a_person_and_writes_its_cache_alone(
    supervisor: SystemdSupervisor, manager: UserManager
) -> None:
    home = supervisor.home
    home.token.write_text("the token")
    home.server_key.write_text("its own key")
    (manager.home / ".ssh").mkdir(exist_ok=True)
    (manager.home / ".ssh" / "id").write_text("a key")
    look = (
        "import json,os,sys,time; t={}\n"
        "for p in sys.argv[2:]:\n"
        "  try: t[p] = sorted(os.listdir(p)) if os.path.isdir(p) else open(p).read()\n"
        "  except OSError as e: t[p] = None\n"
        "try: open(os.environ['STATE'] + '/x', 'w'); t['wrote'] = True\n"
        "except OSError: t['wrote'] = False\n"
        "f=open(sys.argv[1]+'.tmp','w'); f.write(json.dumps(t)); f.close()\n"
        "os.rename(sys.argv[1]+'.tmp', sys.argv[1])\n"
        "time.sleep(600)"
    )
    out, program = home.cache / "seen.json", home.cache / "look.py"  # a newline is refused in a unit
    program.write_text(look)
    argv = (sys.executable, str(program), str(out), str(home.server_key))
    supervisor.apply([Service("server", "look", argv, env={"STATE": str(home.state)})])
    eventually(out.exists, "the service wrote what it saw")
    seen = json.loads(out.read_text())
    assert seen[str(home.server_key)] == "its own key" and seen["wrote"] is False
    pid = supervisor.status()["server"].pid
    root = Path(f"/proc/{pid}/root")
    assert (root / str(home.token).lstrip("/")).read_text() == "", "another file is mounted over it"
    assert list((root / str(manager.home / ".ssh").lstrip("/")).iterdir()) == []
    shutil.rmtree(manager.home / ".ssh")


def test_verify_finds_nothing_wrong_with_our_units(supervisor: SystemdSupervisor, manager: UserManager) -> None:
    services = [sleeper("server", memory_max_mib=500), sleeper("proxy", notify=True)]
    supervisor.apply(services)
    files = [str(manager.home / ".config/systemd/user" / unit) for unit in supervisor.desired(services)]
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *files],
        env=manager.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "llmstack" in line]
    assert (done.returncode, ours) == (0, [])


def test_applying_twice_restarts_nothing_and_a_change_restarts_only_its_own_unit(supervisor: SystemdSupervisor) -> None:
    assert set(supervisor.apply([sleeper("server"), sleeper("proxy")])) == {"server", "proxy"}
    eventually(lambda: all(s.state is ServiceState.RUNNING for s in supervisor.status().values()), "both run")
    before = {name: status.pid for name, status in supervisor.status().items()}
    assert supervisor.apply([sleeper("server"), sleeper("proxy")]) == ()
    changed = sleeper("server", env={"A": "1"})
    assert supervisor.apply([changed, sleeper("proxy")]) == ("server",)
    eventually(lambda: supervisor.status()["server"].state is ServiceState.RUNNING, "the server runs again")
    after = {name: status.pid for name, status in supervisor.status().items()}
    assert after["proxy"] == before["proxy"]
    assert after["server"] != before["server"]


def test_a_service_that_is_no_longer_wanted_is_stopped_and_its_unit_removed(supervisor: SystemdSupervisor) -> None:
    supervisor.apply([sleeper("server"), sleeper("proxy")])
    supervisor.apply([sleeper("proxy")])
    assert set(supervisor.status()) == {"proxy"}


def test_kill_9_heals_and_the_death_is_told(supervisor: SystemdSupervisor) -> None:
    supervisor.apply([sleeper()])
    eventually(lambda: supervisor.status()["server"].pid is not None, "it runs")
    first = supervisor.status()["server"].pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    eventually(lambda: supervisor.status()["server"].pid not in (None, first), "it begins again")
    eventually(lambda: supervisor.status()["server"].state is ServiceState.RUNNING, "its sandbox is made, it runs")
    status = supervisor.status()["server"]
    assert status.restarts == 1
    assert status.last_exit is not None and "SIGKILL" in status.last_exit


def test_stop_keeps_it_down_and_restart_brings_it_back(supervisor: SystemdSupervisor, manager: UserManager) -> None:
    supervisor.apply([sleeper()])
    eventually(lambda: supervisor.status()["server"].pid is not None, "it runs")
    unit = f"llmstack-server{supervisor.suffix}.service"
    assert manager.systemctl("is-enabled", unit).strip() == "enabled"
    supervisor.stop()
    assert supervisor.status()["server"].state is ServiceState.STOPPED
    assert manager.systemctl("is-enabled", unit, check=False).strip() == "disabled"
    supervisor.restart(["server"])
    eventually(lambda: supervisor.status()["server"].state is ServiceState.RUNNING, "it runs again")
    assert manager.systemctl("is-enabled", unit).strip() == "enabled"


def test_restarting_what_was_never_applied_says_what_to_do(supervisor: SystemdSupervisor) -> None:
    with pytest.raises(NotSo, match="not installed"):
        supervisor.restart(["server"])


def test_a_unit_edited_by_hand_is_kept_unless_forced(supervisor: SystemdSupervisor, manager: UserManager) -> None:
    supervisor.apply([sleeper()])
    file = manager.home / ".config/systemd/user" / f"llmstack-server{supervisor.suffix}.service"
    edited = file.read_text().replace("RestartSec=2", "RestartSec=7")
    file.write_text(edited)
    supervisor.apply([sleeper(env={"NEW": "1"})])
    assert file.read_text() == edited
    assert "edited by hand" in supervisor.notices[0]
    supervisor.force = True
    supervisor.apply([sleeper(env={"NEW": "1"})])
    assert "NEW=1" in file.read_text()


def test_a_drop_in_counts_and_is_never_removed(supervisor: SystemdSupervisor, manager: UserManager) -> None:
    supervisor.apply([sleeper()])
    eventually(lambda: supervisor.status()["server"].pid is not None, "it runs")
    first = supervisor.status()["server"].pid
    unit = f"llmstack-server{supervisor.suffix}.service"
    drop_in = manager.home / ".config/systemd/user" / f"{unit}.d" / "mine.conf"
    drop_in.parent.mkdir()
    time.sleep(0.02)
    drop_in.write_text("[Service]\nEnvironment=MINE=1\n")
    assert supervisor.apply([sleeper()]) == ("server",)
    eventually(lambda: supervisor.status()["server"].pid not in (None, first), "it restarted")
    assert "MINE=1" in manager.systemctl("show", "-p", "Environment", unit)
    supervisor.remove()
    assert drop_in.exists()
    drop_in.unlink()
    drop_in.parent.rmdir()


@pytest.mark.parametrize("kind", ["symlink", "foreign", "folder"])
def test_a_unit_path_that_is_not_ours_is_refused(
    supervisor: SystemdSupervisor, manager: UserManager, tmp_path: Path, kind: str
) -> None:
    folder = manager.home / ".config/systemd/user"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"llmstack-server{supervisor.suffix}.service"
    target = tmp_path / "target"
    target.write_text("[Service]\nExecStart=/bin/true\n")
    match kind:
        case "symlink":
            path.symlink_to(target)
        case "foreign":
            path.write_text(target.read_text())
        case "folder":
            path.mkdir()
    try:
        with pytest.raises(NotSo, match="left alone"):
            supervisor.apply([sleeper()])
        assert target.read_text() == "[Service]\nExecStart=/bin/true\n"
    finally:
        path.rmdir() if kind == "folder" else path.unlink()


def test_a_program_that_is_missing_is_told_as_such(supervisor: SystemdSupervisor) -> None:
    supervisor.apply([Service("server", "none", ("/nowhere/llama-server",))])
    eventually(lambda: supervisor.status()["server"].last_exit is not None, "the failure is known")
    assert supervisor.status()["server"].last_exit == "its program cannot be run: missing or not executable"


def test_running_out_of_memory_again_and_again_stops_at_the_limit(supervisor: SystemdSupervisor) -> None:
    import dataclasses

    supervisor.settings = dataclasses.replace(supervisor._settings(), restart_s=0.1, start_limit=3)
    eat = "x = bytearray(300 << 20)"
    supervisor.apply([Service("server", "eater", (sys.executable, "-c", eat), memory_max_mib=80)])
    eventually(lambda: supervisor.status()["server"].state is ServiceState.FAILED, "its limit stops it")
    status = supervisor.status()["server"]
    assert status.last_exit is not None and "out of memory" in status.last_exit
    assert status.restarts == 3


def test_lines_of_both_services_come_back_in_order_and_by_service(supervisor: SystemdSupervisor) -> None:
    say = (
        "import sys,time; [(print(sys.argv[1], i, flush=True), time.sleep(0.05)) for i in range(3)];"
        "print('\\x1b[31mred é\\x1b[0m', flush=True); time.sleep(600)"
    )
    supervisor.apply([Service(n, n, (sys.executable, "-c", say, n)) for n in ("server", "proxy")])
    eventually(lambda: len(supervisor.logs(["server", "proxy"], last=None, since_s=None)) >= 8, "eight lines")
    lines = supervisor.logs(["server", "proxy"], last=None, since_s=None)
    assert [line.text for line in lines if line.service == "server"][:4] == [
        "server 0",
        "server 1",
        "server 2",
        "\x1b[31mred é\x1b[0m",
    ]
    assert [line.time_s for line in lines] == sorted(line.time_s for line in lines)
    assert {line.service for line in supervisor.logs(["proxy"], last=None, since_s=None)} == {"proxy"}
    assert len(supervisor.logs(["server", "proxy"], last=3, since_s=None)) == 3
    assert supervisor.logs(["server"], last=None, since_s=time.time() + 60) == []


def test_followed_lines_arrive_as_they_are_written(supervisor: SystemdSupervisor) -> None:
    say = "import time; [(print('line', i, flush=True), time.sleep(0.05)) for i in range(200)]"
    supervisor.apply([Service("server", "talker", (sys.executable, "-c", say))])
    following = supervisor.follow(["server"])
    lines = [next(following).text for _ in range(5)]
    following.close()  # type: ignore[attr-defined]
    numbers = [int(text.split()[1]) for text in lines]
    assert numbers == list(range(numbers[0], numbers[0] + 5))


def test_without_a_journal_lines_go_to_files(supervisor: SystemdSupervisor, home: paths.Home) -> None:
    import dataclasses

    supervisor.settings = dataclasses.replace(supervisor._settings(), log_folder=str(home.logs))
    supervisor.apply([Service("server", "talker", (sys.executable, "-c", "print('to a file')"))])
    eventually(lambda: (home.logs / "server.log").exists(), "the file is there")
    eventually(lambda: bool(supervisor.logs(["server"], last=1, since_s=None)), "it has a line")
    assert supervisor.logs(["server"], last=1, since_s=None)[0].text == "to a file"


def test_two_homes_do_not_share_units(home: paths.Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = SystemdSupervisor.of(home)
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "other"))
    second = SystemdSupervisor.of(paths.home().make())
    try:
        first.apply([sleeper()])
        second.apply([sleeper("proxy")])
        assert (set(first.status()), set(second.status())) == ({"server"}, {"proxy"})
        second.remove()
        assert first.status()["server"].state in (ServiceState.RUNNING, ServiceState.STARTING)
    finally:
        first.remove()
        second.remove()


def test_an_install_and_its_removal_leave_no_trace_in_the_home(manager: UserManager, tmp_path: Path) -> None:
    home = paths.Home(*(tmp_path / name for name in ("c", "s", "d", "k"))).make()
    before = sorted(str(p) for p in manager.home.rglob("*"))
    supervisor = SystemdSupervisor(home, "-trace")
    supervisor.apply([sleeper(), sleeper("proxy")])
    assert sorted(str(p) for p in manager.home.rglob("*")) != before
    supervisor.remove()
    assert sorted(str(p) for p in manager.home.rglob("*")) == before


def test_what_is_enabled_starts_with_the_manager(
    supervisor: SystemdSupervisor, manager: UserManager, session_manager: UserManager
) -> None:
    supervisor.apply([sleeper(), sleeper("proxy")])
    eventually(lambda: all(s.pid for s in supervisor.status().values()), "both run")
    before = {s.pid for s in supervisor.status().values()}
    session_manager.stop()
    session_manager.start()
    eventually(lambda: all(s.state is ServiceState.RUNNING for s in supervisor.status().values()), "both run again")
    assert before.isdisjoint({s.pid for s in supervisor.status().values()})
