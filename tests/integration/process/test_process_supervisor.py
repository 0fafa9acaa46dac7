"""The process supervisor with real processes: it starts, restarts, gives up, obeys and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from llmstack.deploy.ready import wait_ready
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.process import ProcessSupervisor
from llmstack.process.files import SupervisorFolder
from llmstack.supervisor import Service, ServiceState
from support.wait import eventually

FOREVER = "import time, sys; print('up', flush=True); time.sleep(600)"


def service(name: str, code: str = FOREVER, **env: str) -> Service:
    return Service(name, f"test service {name}", (sys.executable, "-c", code), env)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache").make()


@pytest.fixture
def supervisor(home: Home) -> Iterator[ProcessSupervisor]:
    keeper = ProcessSupervisor(home)
    yield keeper
    keeper.stop()


def keeper_pid(home: Home) -> int:
    pid = SupervisorFolder(home.state / "process", home.logs).supervisor_pid()
    assert pid
    return pid


def state_of(supervisor: ProcessSupervisor, name: str) -> ServiceState:
    return supervisor.status()[name].state


def pid_of(supervisor: ProcessSupervisor, name: str) -> int:
    eventually(lambda: supervisor.status()[name].pid)
    pid = supervisor.status()[name].pid
    assert pid
    return pid


def test_applied_services_run_in_sessions_of_their_own(supervisor: ProcessSupervisor, home: Home) -> None:
    assert supervisor.apply([service("server"), service("proxy")]) == ("server", "proxy")
    for name in ("server", "proxy"):
        pid = pid_of(supervisor, name)
        assert os.getsid(pid) == pid != os.getsid(0)
    assert (home.logs / "supervisor.log").stat().st_mode & 0o077 == 0, "nobody else reads the supervisor's own log"


def test_a_server_that_this_processor_cannot_run_is_told_apart_from_other_deaths(supervisor: ProcessSupervisor) -> None:
    supervisor.apply([service("server", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")])
    with pytest.raises(NotSo) as caught:
        wait_ready(supervisor, "server", "http://127.0.0.1:9", deadline_s=20)
    assert "SIGILL" in str(caught.value) and "this processor does not execute" in caught.value.why
    assert "llmstack engine use embedded" in caught.value.next


def test_a_server_that_died_while_another_service_was_waited_for_still_tells_its_last_words(
    supervisor: ProcessSupervisor,
) -> None:
    told = time.time()
    supervisor.apply([service("server", "import sys; print('invalid device: CUDA0', flush=True); sys.exit(1)")])
    eventually(lambda: supervisor.status()["server"].restarts >= 2)
    time.sleep(2)  # longer than a slow proxy takes; its next start lies seconds ahead
    with pytest.raises(NotSo) as caught:
        wait_ready(supervisor, "server", "http://127.0.0.1:9", deadline_s=20, started_at=told)
    assert "the engine has no device CUDA0" in caught.value.why


def test_a_killed_service_comes_back_and_says_how_it_died(supervisor: ProcessSupervisor) -> None:
    supervisor.apply([service("server")])
    first = pid_of(supervisor, "server")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: supervisor.status()["server"].pid not in (None, first))
    status = supervisor.status()["server"]
    assert (status.restarts, status.last_exit) == (1, "killed by SIGKILL")


def test_a_service_that_dies_at_once_is_given_up(
    supervisor: ProcessSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.apply([service("server", "import sys; print('no model', flush=True); sys.exit(7)")])
    eventually(lambda: state_of(supervisor, "server") is ServiceState.FAILED, within_s=40)
    status = supervisor.status()["server"]
    assert status.last_exit == "exited with status 7"
    assert status.restarts == 6

    def texts() -> list[str]:
        return [line.text for line in supervisor.logs(["server"], last=None, since_s=None)]

    eventually(lambda: "gave up" in texts()[-1])  # the log has a thread of its own
    assert texts().count("no model") == 6


def test_a_program_that_is_not_there_is_told(supervisor: ProcessSupervisor) -> None:
    supervisor.apply([Service("server", "missing", ("/nowhere/llama-server",))])
    eventually(lambda: supervisor.status()["server"].last_exit)
    assert "could not be started" in (supervisor.status()["server"].last_exit or "")


def test_applying_the_same_again_restarts_nothing(supervisor: ProcessSupervisor) -> None:
    supervisor.apply([service("server"), service("proxy")])
    before = (pid_of(supervisor, "server"), pid_of(supervisor, "proxy"))
    assert supervisor.apply([service("server"), service("proxy")]) == ()
    assert (pid_of(supervisor, "server"), pid_of(supervisor, "proxy")) == before


def test_only_the_changed_service_restarts(supervisor: ProcessSupervisor) -> None:
    supervisor.apply([service("server"), service("proxy")])
    server, proxy = pid_of(supervisor, "server"), pid_of(supervisor, "proxy")
    assert supervisor.apply([service("server"), service("proxy", COLOUR="red")]) == ("proxy",)
    eventually(lambda: supervisor.status()["proxy"].pid not in (None, proxy))
    assert pid_of(supervisor, "server") == server
    assert not psutil.pid_exists(proxy)


def test_restart_gives_the_named_service_a_new_process(supervisor: ProcessSupervisor) -> None:
    supervisor.apply([service("server"), service("proxy")])
    server, proxy = pid_of(supervisor, "server"), pid_of(supervisor, "proxy")
    supervisor.restart(["server"])
    eventually(lambda: supervisor.status()["server"].pid not in (None, server))
    assert pid_of(supervisor, "proxy") == proxy
    with pytest.raises(NotSo, match="no service nonsense"):
        supervisor.restart(["nonsense"])


def test_stop_leaves_no_process_even_when_one_ignores_sigterm(
    supervisor: ProcessSupervisor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    supervisor.apply([service("server", stubborn), service("proxy")])
    pids = [pid_of(supervisor, "server"), pid_of(supervisor, "proxy"), keeper_pid(home)]
    eventually(lambda: supervisor.logs(["server"], last=None, since_s=None))
    supervisor.stop()
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    assert state_of(supervisor, "server") is ServiceState.STOPPED
    supervisor.stop()


def test_services_die_with_a_killed_keeper_and_the_next_apply_recovers(
    supervisor: ProcessSupervisor, home: Home
) -> None:
    supervisor.apply([service("server")])
    orphan = pid_of(supervisor, "server")
    os.kill(keeper_pid(home), signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == "zombie")
    eventually(lambda: state_of(supervisor, "server") is ServiceState.STOPPED)  # the lock goes with its last holder
    assert supervisor.apply([service("server")]) == ("server",)
    assert pid_of(supervisor, "server") != orphan


def test_logs_are_merged_by_time_and_followed(supervisor: ProcessSupervisor) -> None:
    ticking = "import time\nfor n in range(5):\n    print('tick', n, flush=True); time.sleep(0.05)\ntime.sleep(600)"
    following = supervisor.follow(["server", "proxy"])
    supervisor.apply([service("server", ticking), service("proxy", ticking)])
    lines = [next(following) for _ in range(10)]
    assert sorted(line.text for line in lines if line.service == "server") == [f"tick {n}" for n in range(5)]
    merged = supervisor.logs(["server", "proxy"], last=4, since_s=None)
    assert len(merged) == 4
    assert [line.time_s for line in merged] == sorted(line.time_s for line in merged)


SLOW_TO_END = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(2), exit(0)))
print("up", flush=True)
while True:
    time.sleep(0.1)
"""


def test_a_supervisor_that_is_on_its_way_out_is_followed_by_one_that_obeys(
    supervisor: ProcessSupervisor, home: Home
) -> None:
    """A `down` that was killed behind its SIGTERM, and the `up` after it."""
    supervisor.apply([service("server", SLOW_TO_END)])
    before = pid_of(supervisor, "server")
    eventually(lambda: supervisor.logs(["server"], last=1, since_s=None), "it says up")
    leaving = keeper_pid(home)
    os.kill(leaving, signal.SIGTERM)
    supervisor.apply([service("server", SLOW_TO_END)])
    assert keeper_pid(home) != leaving and not psutil.pid_exists(before)
    assert pid_of(supervisor, "server") != before


def test_removing_forgets_the_services_but_keeps_their_logs(supervisor: ProcessSupervisor, home: Home) -> None:
    supervisor.apply([service("server")])
    pid_of(supervisor, "server")
    eventually(lambda: supervisor.logs(["server"], last=1, since_s=None))
    supervisor.remove()
    assert supervisor.status() == {}
    assert (home.logs / "server.log").exists()
    with pytest.raises(NotSo):
        supervisor.restart(["server"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Home]:
    """A home of its own on a disk of 512 KiB; mounting one needs root."""
    assert os.geteuid() == 0, "this test mounts a small disk: run it as root"
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=True)
    try:
        yield Home(folder / "config", folder / "state", folder / "data", folder / "cache").make()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


# Loud at its start, so that a full disk costs lines; then 18 kB/s, so that the report finds room that the log leaves.
LOUD = "import time\nfor n in range(10**9): print('x' * 900, flush=True); time.sleep(0.05 * (n > 150))"


def test_a_disk_that_was_full_for_a_moment_costs_lines_and_no_care(small_disk: Home) -> None:
    keeper = ProcessSupervisor(small_disk)
    try:
        keeper.apply([service("server", LOUD)])
        eventually(lambda: keeper.status()["server"].pid)
        ballast = small_disk.state / "ballast"
        fill(ballast)
        first = pid_of(keeper, "server")
        os.kill(first, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(first), "it is dead")
        assert keeper.status()["server"].pid != first, "a dead process is shown as such even now"
        supervisor_process = psutil.Process(keeper_pid(small_disk))
        eventually(lambda: [child for child in supervisor_process.children() if child.pid != first], "it runs again")
        ballast.unlink()
        for log in small_disk.logs.iterdir():
            log.write_bytes(b"")
        eventually(lambda: keeper.status()["server"].pid not in (None, first), "and is written down")
        eventually(lambda: any("were lost" in line.text for line in keeper.logs(["server"], last=None, since_s=None)))
    finally:
        ballast.unlink(missing_ok=True)
        keeper.stop()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while stream.write(b"\0" * size) == size:
                    pass


SIGNS = """
import os, socket, time
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
print("watched for", os.environ["WATCHDOG_USEC"], flush=True)
while True:
    channel.send(b"WATCHDOG=1")
    time.sleep(0.05)
"""


def test_a_service_that_stops_giving_signs_of_life_is_ended_and_started_again(
    supervisor: ProcessSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.apply([Service("proxy", "signs", (sys.executable, "-c", SIGNS), notify=True, watchdog_s=2.0)])
    first = pid_of(supervisor, "proxy")
    eventually(lambda: supervisor.logs(["proxy"], last=None, since_s=None))
    os.kill(first, signal.SIGSTOP)
    eventually(lambda: supervisor.status()["proxy"].pid not in (None, first), "another one runs")
    assert supervisor.status()["proxy"].last_exit == "it gave no sign of life and was ended"
    second = pid_of(supervisor, "proxy")
    assert psutil.Process(second).status() != "stopped"
