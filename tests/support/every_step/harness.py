"""One command in one home, with a fault at one of its steps; then the same command again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tarfile
import time
import tomllib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from support.every_step.effects import KILLED_AFTER, KILLED_BEFORE, OUTCOMES, Effects
from support.every_step.scenes import Scene
from support.hub import hub_server
from support.model_bytes import model_bytes
from support.wait import free_port

LIMIT_S = 30.0
SERVICES_S = 150.0
LIST = b'[models.extra]\nrepo = "maker/tiny"\nfile = "Tiny-Q4_K_M.gguf"\nchecked = "2999-01-01"\n'
_TEMPORARY = re.compile(r"^\..*\.[0-9]+$")  # paths.write_atomic
_UNTOLD = ("itself failed", "Traceback")
_VARYING = re.compile(
    r"(^|/)(logs|process|debug)/|\.lock$|(^|/)(lock|crash\.txt)$"
)  # not part of what a command leaves


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


@dataclass
class Trial:
    """What was wrong with one fault at one step."""

    command: str
    step: str
    outcome: str
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.command}, {self.outcome} at {self.step!r}: {'; '.join(self.wrong)}"


class Stage:
    """A scene's home as it was prepared, and a place to play in. Close it."""

    def __init__(self, scene: Scene, root: Path, hub: str) -> None:
        self.scene, self.root = scene, root
        root.mkdir(parents=True)
        (root / "ports").write_text(f"{free_port()} {free_port()}")
        (root / "hub").write_text(hub)
        self.work, self._before = root / "work", root / "before"
        self._record = root / "steps"
        (self.work / "user").mkdir(parents=True)
        (self.work / "home").mkdir()
        self._fork(lambda: scene.prepare(self.work))
        shutil.copytree(self.work, self._before, symlinks=True)
        self.clean = self.play(0, "")
        self.steps = tuple(self._record.read_text().splitlines()) if self._record.exists() else ()
        self.after = _files(self.work)
        self.old = _files(self._before)

    def play(self, number: int, outcome: str) -> Ran:
        """The command, with that outcome at that step (counted from one), in the home as it was prepared."""
        self._reset()
        return self.run(number, outcome)

    def run(self, number: int, outcome: str) -> Ran:
        def command() -> int:
            from llmstack.cli.main import run

            Effects(self.work, number, outcome, self._record).install()
            return run(self.scene.argv(self.work))

        self._record.unlink(missing_ok=True) if not number else None
        return self._fork(command)

    def trial(self, number: int, outcome: str) -> Trial:
        trial = Trial(self.scene.command, self.steps[number - 1], outcome)
        ran = self.play(number, outcome)
        killed = outcome in (KILLED_BEFORE, KILLED_AFTER)
        text = ran.out + ran.err
        trial.wrong += [f"it says {word!r}: {text[-500:]}" for word in _UNTOLD if word in text]
        if not killed and ran.status != self.clean.status:
            trial.wrong += self._untold(text)
        trial.wrong += self._torn()
        again = self.run(0, "")
        if again.status != self.clean.status and again.status not in self.scene.again:
            trial.wrong.append(f"run again it ends with {again.status}: {(again.out + again.err)[-400:]}")
        trial.wrong += self._left()
        return trial

    def close(self) -> None:
        self._end()
        shutil.rmtree(self.root, ignore_errors=True)

    # ---- what must hold -----------------------------------------------------------------------------------------

    def _untold(self, text: str) -> list[str]:
        """An error names a place on this disk, and what to do."""
        wrong = [] if str(self.work) in text else [f"the error names no folder: {text[-400:]}"]
        if "next" not in text:
            wrong.append(f"the error has no remedy: {text[-400:]}")
        return wrong

    def _torn(self) -> list[str]:
        """Each file is as before, or as after, or whole in its own format."""
        torn = []
        for name, digest in _files(self.work).items():
            if digest in (self.old.get(name), self.after.get(name)) or _is_unfinished(name):
                continue
            if not _reads(self.work / name):
                torn.append(f"torn: {name}")
        return torn

    def _left(self) -> list[str]:
        """After the command has ended well: the files it leaves anyway, and no process that it does not."""
        now = {name for name in _files(self.work) if not _VARYING.search(name)}
        then = {name for name in self.after if not _VARYING.search(name)}
        wrong = [f"left behind: {name}" for name in sorted(now - then) if not self.scene.may_leave(name)]
        return wrong + [f"missing: {name}" for name in sorted(then - now) if not self.scene.may_leave(name)]

    # ---- processes ----------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._end()
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self._before, self.work, symlinks=True)
        if self.scene.live is not None:
            live = self.scene.live
            self._fork(lambda: live(self.work))

    def _end(self) -> None:
        """Services that were started for this home."""
        if not self.scene.services:
            return
        for process in psutil.process_iter():
            try:
                if process.environ().get("LLMSTACK_HOME") == str(self.work / "home"):
                    process.kill()
            except psutil.Error:
                continue

    def _fork(self, work: Any) -> Ran:
        """In a child of this process, which has everything imported already."""
        out, err = self.root / "out", self.root / "err"
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._child(work, out, err)
        deadline = time.monotonic() + (SERVICES_S if self.scene.services else LIMIT_S)
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return Ran(-1, "", "it did not end in time: a lock that blocks")
            time.sleep(0.002)
        return Ran(os.waitstatus_to_exitcode(ended[1]), out.read_text(), err.read_text())

    def _child(self, work: Any, out: Path, err: Path) -> None:
        status = 70
        try:
            os.setsid()
            for descriptor, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
            typed = self.root / "typed"
            typed.write_text(self.scene.stdin)
            os.dup2(os.open(typed, os.O_RDONLY), 0)
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
            for name in [name for name in os.environ if name.startswith(("LLMSTACK_", "ANTHROPIC", "XDG_", "PYTEST"))]:
                del os.environ[name]
            os.environ |= {"LLMSTACK_HOME": str(self.work / "home"), "HOME": str(self.work / "user"), "NO_COLOR": "1"}
            os.environ |= {"LLMSTACK_SUPERVISOR": "process", "COLUMNS": "1000", **self.scene.variables}
            os.chdir(self.work / "user")
            status = work() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def _files(root: Path) -> dict[str, str]:
    """Name to digest; a link counts as where it leads."""
    digests = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            digests[name] = f"-> {path.readlink()}"
        elif path.is_file():
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def _is_unfinished(name: str) -> bool:
    """Bytes that have no name of their own yet, or whose tail may be torn."""
    leaf = name.rpartition("/")[2]
    return bool(_TEMPORARY.match(leaf)) or leaf.endswith((".part", ".partial", ".lock", "lock", ".log", ".tmp"))


def _reads(path: Path) -> bool:
    """Whole in its own format."""
    try:
        if path.suffix == ".json" or path.name.endswith(".prefix"):
            json.loads(path.read_bytes())
        elif path.suffix == ".toml":
            tomllib.loads(path.read_text())
        elif path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        elif path.name in ("token", "server.key"):
            return path.read_bytes().endswith(b"\n")
        elif path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                archive.getmembers()
        else:
            return False
    except (ValueError, EOFError, tarfile.TarError):
        return False
    return True


def trials_of(stage: Stage) -> list[tuple[int, str]]:
    """Every step with every outcome."""
    return [(number, outcome) for number in range(1, len(stage.steps) + 1) for outcome in OUTCOMES]


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server, in a process of its own, that stands for the hub."""
    address, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        digest = hashlib.sha256(LIST).hexdigest().encode()
        files = {"Tiny-Q4_K_M.gguf": model_bytes(20_000, 1), "list.toml": LIST, "list.toml.sha256": digest}
        with hub_server(files) as hub:
            os.write(tell, hub.url.encode())
            while os.getppid() != 1:
                time.sleep(0.2)
        os._exit(0)
    try:
        yield os.read(address, 200).decode()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(address)
        os.close(tell)
