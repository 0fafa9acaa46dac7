"""A full disk, a stopped stack, logs of nothing, questions that nobody can answer: a plain sentence each."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmstack import paths, stackfile
from llmstack.cli.main import run
from llmstack.engine.find import find
from llmstack.errors import MissingPart
from llmstack.paths import Home
from llmstack.stackfile import ModelEntry, ServerEntry, StackRecord


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "stack"))
    return paths.home().make()


@pytest.fixture
def full_disk(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of ours that is written to disk finds no room, as fsync says it."""

    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(paths.os, "fsync", no_room)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_named_with_the_place_and_what_frees_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["upstream", "offline", "on"]) == 3
    shown = capsys.readouterr().err
    assert "the disk is full" in shown and str(home.config) in shown
    assert "models disk" in shown and "itself failed" not in shown
    assert not list(home.config.iterdir())


@pytest.mark.usefixtures("full_disk")
def test_a_plan_needs_no_room_on_the_disk(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "qwen3-1.7b", "--json"]) in (0, 1)
    assert '"feasible"' in capsys.readouterr().out
    assert run(["models", "list", "--json"]) == 0


def _deployed(home: Home) -> None:
    record = StackRecord(ModelEntry("m", "/nowhere/m.gguf"), ServerEntry("127.0.0.1", 1), n_ctx=4096)
    stackfile.write(home, record)


@pytest.mark.parametrize("command", ["bench", "warm"])
def test_a_stopped_stack_is_called_stopped_with_what_starts_it(
    command: str, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    _deployed(home)
    assert run([command]) == 1
    shown = capsys.readouterr().err
    assert "the stack is stopped" in shown and "llmstack up" in shown and "Errno" not in shown


@pytest.mark.parametrize("words", [["logs"], ["logs", "-f"], ["logs", "server", "--json"]])
def test_logs_of_nothing_say_that_nothing_was_started(
    words: list[str], home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 1
    assert "nothing has been started yet" in capsys.readouterr().err


def _interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_a_screen_that_is_watched_without_an_error(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmstack.render.status.time.sleep", _interrupted)
    assert run(["status", "--watch"]) == 0
    assert capsys.readouterr().err == ""


def test_ctrl_c_ends_logs_that_are_followed_without_an_error(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.logs.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr("llmstack.process.supervisor.ProcessSupervisor.status", lambda _: {"server": None})
    monkeypatch.setattr("llmstack.render.logs.show_following", _interrupted)
    assert run(["logs", "-f"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("words", "errors"), [(["status"], "replace"), (["shell-init", "bash"], "strict")])
def test_a_locale_without_our_letters_shows_others_but_never_to_a_shell(
    words: list[str], errors: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", stream)
    run(words)
    assert stream.errors == errors


def test_a_report_s_place_is_looked_at_before_anything_is_measured(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _deployed(home)
    assert run(["bench", "--report", str(tmp_path / "no where" / "x.html")]) == 2
    shown = capsys.readouterr().err
    assert "there is no folder" in shown and f"mkdir -p '{tmp_path / 'no where'}'" in shown


def test_an_engine_is_taken_by_the_folder_that_holds_it(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["engine", "use", str(tmp_path / "empty")]) == 2
    assert "holds no llama-server" in capsys.readouterr().err
    built = tmp_path / "llama.cpp" / "build" / "bin"
    built.mkdir(parents=True)
    (built / "llama-server").write_text("#!/bin/sh\necho 'version: 5000 (a)'\n")
    (built / "llama-server").chmod(0o755)
    assert run(["engine", "use", str(tmp_path / "llama.cpp")]) == 3
    assert str(built / "llama-server") in capsys.readouterr().err


def test_an_engine_that_is_not_there_is_no_question(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["engine", "remove", "nope"]) == run(["engine", "use", "nope"]) == 2
    assert "Delete" not in capsys.readouterr().err


def test_two_backends_are_two_engines(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["engine", "install", "--cuda", "--cpu"]) == 2
    assert "--cuda and --cpu" in capsys.readouterr().err


def test_the_embedded_engine_is_asked_for_by_its_own_name(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """`llmstack` on PyPI is somebody else's program."""
    for source in ("_built", "_on_path", "_embedded"):
        empty: Callable[..., tuple[()]] = lambda _: ()  # noqa: E731
        monkeypatch.setattr(f"llmstack.engine.find.{source}", empty)
    with pytest.raises(MissingPart) as refused:
        find(home)
    assert "xllamacpp" in refused.value.next and "llmstack[" not in refused.value.next


@pytest.mark.parametrize("ports", [("5005", "5005"), ("8080", None), (None, "5000")])
def test_one_port_for_both_services_is_refused_before_anything_is_planned(
    ports: tuple[str | None, str | None], home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        word for flag, port in zip(("--port", "--server-port"), ports, strict=True) if port for word in (flag, port)
    ]
    assert run(["up", "--demo", *words]) == 2
    shown = capsys.readouterr().err
    assert "two ports" in shown and "up --demo --port" in shown and "planning" not in shown


def test_an_address_that_is_not_here_is_refused_before_anything_is_planned(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", "--demo", "--listen", "nonsense"]) == 2
    shown = capsys.readouterr().err
    assert "nonsense is no IP address" in shown and "--port PORT" not in shown and "planning" not in shown
