"""A real `systemd --user` manager and a real journald for tests, private to one test run.

It has its own HOME, XDG_RUNTIME_DIR and control group, so runs side by side do not meet and nothing of the
account that runs the tests is touched. journald is one per machine: runs share it and the last one ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from support.programs import debian_packages
from support.wait import eventually

SYSTEMD = Path("/lib/systemd/systemd")
JOURNALD = Path("/lib/systemd/systemd-journald")
JOURNAL_SOCKET = Path("/run/systemd/journal/stdout")
JOURNAL_LOCK = Path("/run/llmstack-tests-journald.lock")
CGROUPS = Path("/sys/fs/cgroup")
PACKAGES = ("systemd", "dbus-user-session")
_PR_SET_PDEATHSIG = 1


def install() -> None:
    """Installs systemd from Debian's packages where it is missing (as root), and says so; else fails."""
    debian_packages((str(SYSTEMD), "dbus-daemon", "systemctl"), PACKAGES)


class UserManager:
    """`start`, `stop`, and the environment under which `systemctl --user` reaches this manager."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="sdu-", dir="/tmp"))
        self.home = self.root / "home"
        self.runtime = self.root / "run"
        self.home.mkdir(mode=0o700)
        self._cgroup = f"llmstack-test-{os.getpid()}-{self.root.name}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
        }

    def start(self) -> None:
        """The manager, as at boot: it starts what is enabled."""
        if os.geteuid() == 0:
            # sd_booted(3): libsystemd and systemctl look for this folder.
            Path("/run/systemd/system").mkdir(parents=True, exist_ok=True)
            # What a system's own manager makes for InaccessiblePaths= (inaccessible_nodes: make_inaccessible_nodes).
            Path("/run/systemd/inaccessible/dir").mkdir(parents=True, exist_ok=True, mode=0o000)
            Path("/run/systemd/inaccessible/reg").touch(mode=0o000)
        self.runtime.mkdir(mode=0o700)
        with (self.root / "manager.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(SYSTEMD), "--user"], env={**self.environment(), "SYSTEMD_LOG_TARGET": "journal"},
                cwd=self.root, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, preexec_fn=self._enter,
            )  # fmt: skip
        eventually(self._answers, f"systemd --user answers: {(self.root / 'manager.log').read_text()}")

    def stop(self) -> None:
        """Ends the manager and all it started, as at shutdown."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        for pid in self._left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self._left(), "nothing of the manager's control group is left")
        for folder in self._cgroup_folders():
            for inner in sorted(folder.rglob("*/"), key=lambda p: -len(p.parts)):
                with contextlib.suppress(OSError):
                    inner.rmdir()
            with contextlib.suppress(OSError):
                folder.rmdir()
        shutil.rmtree(self.runtime, ignore_errors=True)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["systemctl", "--user", *arguments],
            env=self.environment(), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def _answers(self) -> bool:
        return self.systemctl("is-system-running", check=False).strip() in ("running", "degraded")

    def _cgroup_folders(self) -> list[Path]:
        """One folder per hierarchy; with cgroup v2 there is one hierarchy."""
        if (CGROUPS / "cgroup.procs").exists():
            return [CGROUPS / self._cgroup]
        return [folder / self._cgroup for folder in CGROUPS.iterdir() if (folder / "cgroup.procs").exists()]

    def _enter(self) -> None:
        """In the child: a control group of its own, and an end together with the test run."""
        for folder in self._cgroup_folders():
            with contextlib.suppress(OSError):
                folder.mkdir(exist_ok=True)
                if (folder / "cpuset.cpus").exists() and not (folder / "cpuset.cpus").read_text().strip():
                    continue
                # As much of the processors as its neighbours get together: a group beside loose processes is
                # one contender among them, however many threads it has.
                for name, value in (("cpu.shares", "16384"), ("cpu.weight", "1000")):
                    if (folder / name).exists():
                        (folder / name).write_text(value)
                (folder / "cgroup.procs").write_text(str(os.getpid()))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def _left(self) -> list[int]:
        found = set()
        for folder in self._cgroup_folders():
            for file in folder.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    found.update(int(line) for line in file.read_text().split())
        return sorted(found)


@contextlib.contextmanager
def journald() -> Iterator[None]:
    """A journald that answers: the machine's own, or one we start and end with the last run that uses it."""
    if os.geteuid() != 0:
        if not _journald_answers():
            raise RuntimeError("these tests need a running journald, or root to start one")
        yield
        return
    with JOURNAL_LOCK.open("a+") as lock:
        _share(lock)
        try:
            yield
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.seek(0)
                recorded = lock.read().strip()
                if recorded and _is_journald(int(recorded)):
                    os.kill(int(recorded), signal.SIGTERM)
                    eventually(lambda: not _journald_answers(), "journald ended")
                lock.truncate(0)


def _share(lock: IO[str]) -> None:
    """Returns with a journald that answers and the lock shared; whoever finds none starts it alone.

    Nobody waits for the whole lock: another worker shares it to the end of its session, which may wait for ours.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            if not _journald_answers():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _start(lock)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if _journald_answers():  # nobody has ended it in between
                return
        fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(0.1)
    raise RuntimeError("no journald answers")


def _start(lock: IO[str]) -> None:
    if _journald_answers():
        return
    process = subprocess.Popen(
        [str(JOURNALD)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    lock.truncate(0)
    lock.write(str(process.pid))
    lock.flush()
    eventually(_journald_answers, "journald takes connections")


def _is_journald(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == "systemd-journal"
    return False


def _journald_answers() -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(JOURNAL_SOCKET))
        except OSError:
            return False
        return True
