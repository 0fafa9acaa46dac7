"""A save that does not come to its end: a process killed in the middle of it, a disk that is full."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from support.stack import Stack
from support.talker import Answer, Talker, events
from support.wait import eventually

ROOM = 400 * 1024  # bytes; a state of these conversations has megabytes


def ask(home: Stack, question: str, topic: str = "Gardening") -> Answer:
    return Talker(home.url, home.token, session=question, topic=topic, lines=300).ask(question)


def slots(home: Stack) -> Path:
    return home.root / "cache" / "slots"


def said(home: Stack, result: str) -> list[str]:
    """What the proxy's log says of states with this result: a file's name and the reason."""
    lines = events(home.root / "state" / "logs" / "proxy.log", "snapshot")
    return [f"{line.get('file', '')} {line['why']}" for line in lines if line["result"] == result]


def pid_of(home: Stack, service: str) -> int:
    found: int = home.run("status", "--json").json["services"][service]["pid"]
    return found


def is_ready(home: Stack) -> bool:
    return bool(home.run("status", "--json").json["state"] == "ready")


def stopped_in_a_save(home: Stack, server: int) -> Path:
    """The file of a save of which the server has written a part; the server stands still (SIGSTOP)."""
    whole = min(path.stat().st_size for path in slots(home).glob("*/prefix-*.kv"))
    for number in range(30):
        ask(home, f"question {number}")
        saving = threading.Thread(target=_save, args=(home,))
        saving.start()
        while saving.is_alive():
            for path in slots(home).glob("*/new-*.kv"):
                if size_of(path) == 0:
                    continue
                os.kill(server, signal.SIGSTOP)
                if saving.is_alive() and 0 < size_of(path) < whole:
                    return path
                os.kill(server, signal.SIGCONT)
        saving.join()
    raise AssertionError("no save could be stopped in its middle")


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _save(home: Stack) -> None:
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(f"{home.url}/llmstack/warm/save", headers={"x-api-key": home.token}, timeout=30)


@pytest.fixture
def home(stack_home: Stack) -> Stack:
    stack_home.up()
    return stack_home


class TestKilledInTheMiddle:
    def test_of_the_server(self, home: Stack) -> None:
        cold = ask(home, "hello")
        server = pid_of(home, "server")
        path = stopped_in_a_save(home, server)
        os.kill(server, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(server))
        eventually(lambda: is_ready(home), within_s=60)
        eventually(lambda: not path.exists())
        assert said(home, "dropped")
        again = ask(home, "hello")
        assert again.text == cold.text and again.computed < 64

    def test_of_the_proxy(self, home: Stack) -> None:
        cold = ask(home, "hello")
        server, proxy = pid_of(home, "server"), pid_of(home, "proxy")
        path = stopped_in_a_save(home, server)
        os.kill(proxy, signal.SIGKILL)
        os.kill(server, signal.SIGCONT)
        eventually(lambda: not psutil.pid_exists(proxy))
        eventually(lambda: is_ready(home), within_s=60)
        eventually(lambda: not path.exists())
        assert f"{path.name} it was not saved to its end" in said(home, "ignored")
        again = ask(home, "hello")
        assert again.text == cold.text and again.computed < 64

    def test_of_everything_at_once_as_when_the_power_fails(self, home: Stack) -> None:
        cold = ask(home, "hello")
        server = pid_of(home, "server")
        path = stopped_in_a_save(home, server)
        for process in home.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        eventually(lambda: not home.processes())
        assert path.stat().st_size > 0
        assert home.run("up").status == 0
        assert not path.exists()
        assert f"{path.name} it was not saved to its end" in said(home, "ignored")
        again = ask(home, "hello")
        assert again.text == cold.text and again.computed < 64


@contextlib.contextmanager
def small_file_system(home: Stack) -> Iterator[None]:
    """The folder of the states is a file system that is full; it has room again once this ends."""
    folder = slots(home)
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(folder)], check=True)
    try:
        home.up()
        free = os.statvfs(folder)
        (folder / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize - ROOM))
        yield
        (folder / "filler").unlink()
        still_saves(home)
    finally:
        home.run("down")
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def small_files(home: Stack) -> Iterator[None]:
    """The server's writes fail behind the first bytes of a file (EFBIG), for whom no file system can be mounted."""
    home.up()
    server = pid_of(home, "server")
    resource.prlimit(server, resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))
    yield
    if server == pid_of(home, "server"):
        resource.prlimit(server, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    still_saves(home)


def still_saves(home: Stack) -> None:
    ask(home, "and with room again?", topic="Cooking")
    assert list(slots(home).glob("*/prefix-*.kv"))


def can_mount() -> bool:
    """root of this machine, not of a container that may not."""
    if os.geteuid() != 0:
        return False
    return (
        subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0
    )


@pytest.mark.parametrize("full", [small_files, *([small_file_system] if can_mount() else [])])
def test_a_full_disk_costs_the_states_only(
    full: Callable[[Stack], contextlib.AbstractContextManager[None]], stack_home: Stack
) -> None:
    with full(stack_home):
        cold = ask(stack_home, "hello")
        assert said(stack_home, "dropped"), "nobody said that nothing could be saved"
        assert not list(slots(stack_home).glob("*/*.kv"))
        warm = ask(stack_home, "hello again")
        assert warm.text == cold.text and warm.computed < 64
        assert stack_home.run("restart").status == 0
        assert is_ready(stack_home)
        again = ask(stack_home, "hello")
        assert again.text == cold.text and again.total == cold.total
