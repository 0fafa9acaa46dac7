"""What a service was started from: the same files, others, none, and a note that is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llmstack import started_from
from llmstack.deploy.outdated import OutdatedService, outdated, remedy, sentence
from llmstack.paths import Home
from llmstack.supervisor import Service, ServiceState, ServiceStatus

PROXY = Service("proxy", "", ("/venv/bin/python", "-m", "llmstack", "serve-proxy"))
EMBEDDED = Service("server", "", ("/venv/bin/python", "-m", "llmstack.engine.embedded", "-m", "/m/x.gguf"))
BINARY = Service("server", "", ("/opt/llama/llama-server", "-m", "/m/llmstack.gguf"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache").make()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one file that runs and one that does not, written a day ago."""
    folder = tmp_path / "src" / "llmstack"
    folder.mkdir(parents=True)
    for name in ("gate.py", "screen.py"):
        write(folder / name, "old", at=1_000_000.0)
    monkeypatch.setattr(started_from, "PACKAGE", folder)
    monkeypatch.setattr(started_from, "loaded_files", lambda: ("gate.py",))
    return folder


def write(path: Path, text: str, at: float) -> None:
    path.write_text(text)
    os.utime(path, (at, at))


def running(pid: int | None = None) -> dict[str, ServiceStatus]:
    pid = os.getpid() if pid is None else pid
    return {name: ServiceStatus(name, ServiceState.RUNNING, pid) for name in ("server", "proxy")}


def test_a_service_that_runs_what_is_here_is_not_spoken_of(home: Home, package: Path) -> None:
    started_from.note(home.state, "proxy")
    assert outdated(home, (PROXY,), running()) == () and sentence(()) == ""
    write(package / "screen.py", "new", at=2_000_000_000.0)
    assert outdated(home, (PROXY,), running()) == (), "it does not run that file"
    write(package / "gate.py", "old", at=2_000_000_000.0)
    assert outdated(home, (PROXY,), running()) == (), "written anew, and the same"


@pytest.mark.parametrize("change", ["another text", "gone", "another version"])
def test_a_service_whose_files_were_replaced_is_named_with_the_command(
    home: Home, package: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_from.note(home.state, "proxy")
    if change == "gone":
        (package / "gate.py").unlink()
    else:
        write(package / "gate.py", "new", at=1_000_000.0)  # as old as before: only the contents tell
    if change == "another version":
        note = home.state / "started-from-proxy.json"
        note.write_text(json.dumps({**json.loads(note.read_text()), "version": "0.0.1"}))
    old = outdated(home, (PROXY, BINARY), running())
    assert [service.name for service in old] == ["proxy"] and remedy(old) == "llmstack restart proxy"
    assert ("llmstack 0.0.1, and" in sentence(old)) is (change == "another version")
    both = (*old, OutdatedService("server"))
    assert remedy(both) == "llmstack restart" and sentence(both).startswith(
        "the proxy and the server were started from"
    )


def test_of_a_service_that_left_no_note_the_time_of_the_files_decides(home: Home, package: Path) -> None:
    assert outdated(home, (PROXY, EMBEDDED), running()) == ()
    write(package / "screen.py", "new", at=4_000_000_000.0)
    assert [service.name for service in outdated(home, (PROXY, EMBEDDED), running())] == ["proxy", "server"]
    assert outdated(home, (BINARY,), running()) == (), "a llama-server is no file of this package"
    started_from.note(home.state, "proxy")
    assert [s.name for s in outdated(home, (PROXY,), running(os.getppid()))] == ["proxy"], (
        "the note is another process's"
    )
    assert outdated(home, (PROXY,), {}) == ()


@pytest.mark.parametrize("data", ["", "[]", "{", '{"pid": 1}', '{"pid": "x", "version": 1, "digest": 2, "files": 3}'])
def test_a_note_that_is_none_is_no_note(home: Home, data: str) -> None:
    (home.state / "started-from-proxy.json").write_text(data)
    assert started_from.read_note(home.state, "proxy") is None


def test_a_supervisor_of_before_is_named_and_all_of_it_is_restarted(home: Home, package: Path) -> None:
    only = OutdatedService("supervisor")
    assert remedy((only,)) == "llmstack restart" and only.to_json()["next"] == "llmstack restart"
    assert outdated(home, (PROXY,), running(), "process") == (), "none lives here"


def test_a_note_leads_to_no_file_elsewhere_and_a_disk_that_refuses_costs_nothing_else(home: Home) -> None:
    note = {"pid": 1, "version": "1", "digest": "", "files": ["../../etc/passwd", "paths.py"]}
    (home.state / "started-from-proxy.json").write_text(json.dumps(note))
    read = started_from.read_note(home.state, "proxy")
    assert read is not None and read.files == ("paths.py",)
    started_from.note(home.state / "no such folder", "proxy")


def test_what_this_process_has_loaded_is_known(home: Home) -> None:
    started_from.note(home.state, "proxy", shipped=("models.toml",))
    read = started_from.read_note(home.state, "proxy")
    assert read is not None and read.is_now and read.pid == os.getpid()
    assert {"started_from.py", "deploy/outdated.py", "models.toml"} <= set(read.files)
    assert (home.state / "started-from-proxy.json").stat().st_mode & 0o777 == 0o600
