"""The command group: exit statuses, errors in words, JSON errors, and no traceback for anybody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from llmstack import commands
from llmstack.cli import main
from llmstack.cli.logs import parse_since
from llmstack.cli.main import group, run
from llmstack.commands import COMMANDS, command_line
from llmstack.errors import BadInput, Interrupted, MissingPart, NotSo


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path))
    monkeypatch.setattr(commands, "_called", "")
    return tmp_path


ROOT = Path(__file__).resolve().parents[3]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException | Callable[[], BaseException]) -> None:
    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def command(as_json: bool) -> None:
        raise error if isinstance(error, BaseException) else error()

    monkeypatch.setattr(group, "get_command", lambda *_: command)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert "Usage: llmstack" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotSo("it does not fit"), 1),
        (BadInput("no such type"), 2),
        (MissingPart("no engine"), 3),
        (Interrupted("stopped"), 4),
        (KeyboardInterrupt(), 4),
        (click.Abort(), 4),
    ],
)
def test_each_error_has_its_exit_status(monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int) -> None:
    failing(monkeypatch, error)
    assert run(["plan"]) == status


def test_an_error_says_what_why_and_the_next_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, MissingPart("port 5000 is in use", why="by nginx\n(pid 7)", next="llmstack up --port 5001"))
    assert run(["up"]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "error: port 5000 is in use",
        "  why: by nginx",
        "       (pid 7)",
        " next: llmstack up --port 5001",
    ]


def test_with_json_an_error_is_one_object_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, NotSo("it does not fit", next="llmstack plan"))
    assert run(["plan", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"] == "it does not fit"
    assert answer["next"] == "llmstack plan"


def test_a_bug_of_ours_shows_a_sentence_and_keeps_the_traceback_in_a_private_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    failing(monkeypatch, ZeroDivisionError("division by zero"))
    assert run(["plan"]) == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert "Traceback" not in shown
    crash = home / "state" / "crash.txt"
    assert "Traceback" in crash.read_text()
    assert crash.stat().st_mode & 0o077 == 0


def test_an_unknown_option_is_a_usage_error_with_the_way_to_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["down", "--sideways"]) == 2
    shown = capsys.readouterr().err
    assert "--sideways" in shown
    assert "llmstack down --help" in shown


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["upp"]) == 2
    assert "upp" in capsys.readouterr().err


def test_the_top_help_names_every_command_but_the_hidden_one(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"])
    shown = capsys.readouterr().out
    assert [name for name, (_, line) in COMMANDS.items() if line and f"\n  {name} " not in shown] == []
    assert "serve-proxy" not in shown
    assert main.ENVIRONMENT_NOTE.split()[0] in shown


def test_since_is_a_span_or_a_time() -> None:
    assert parse_since("10m", 1000.0) == 400.0
    assert parse_since("2h", 8000.0) == 800.0
    assert parse_since("2026-11-20T17:00:00+00:00", 0.0) == 1795194000.0
    with pytest.raises(BadInput, match="yesterday"):
        parse_since("yesterday", 0.0)


@pytest.mark.parametrize("called", ["./stack", str(ROOT / "stack"), "sudo -u me llmstack"])
def test_hints_name_the_program_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], called: str
) -> None:
    failing(
        monkeypatch,
        lambda: NotSo("llmstack is down", next=f'{command_line("up")}; or: eval "$({command_line("env")})"'),
    )
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("LLMSTACK_COMMAND", called)
    run(["plan"])
    assert capsys.readouterr().err.splitlines() == [
        "error: llmstack is down",
        f' next: {called} up; or: eval "$({called} env)"',
    ]


def test_a_program_whose_path_holds_spaces_is_quoted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = tmp_path / "a folder" / "stack"
    program.parent.mkdir()
    program.touch(mode=0o755)
    failing(monkeypatch, lambda: NotSo("it is down", next=command_line("up")))
    monkeypatch.setenv("LLMSTACK_COMMAND", str(program))
    run(["plan", "--json"])
    assert json.loads(capsys.readouterr().out)["next"] == f"'{program}' up"


def test_words_that_are_not_ours_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, NotSo("the engine wrote: run llmstack up"))
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("LLMSTACK_COMMAND", "./stack")
    run(["plan"])
    assert "run llmstack up" in capsys.readouterr().err
