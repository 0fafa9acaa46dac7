"""Small terminals, dumb ones, other locales: nothing breaks inside a word, and a command can be copied as it stands."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest

from llmstack import commands
from llmstack.access.book import KeyBook
from llmstack.access.keys import ClientKey
from llmstack.access.listed import list_keys
from llmstack.access.use import UseOfKeys
from llmstack.commands import called_as, command_line
from llmstack.deploy.status import StackState, StackStatus, Warm
from llmstack.fetch.survey import PATIENCE_S, SurveyRow, recommended
from llmstack.findings import Finding, Level
from llmstack.plan import Goal, make_plan
from llmstack.render import models as models_screen
from llmstack.render.doctor import show_finding
from llmstack.render.fitted import fitted, wrapped
from llmstack.render.key import show_keys
from llmstack.render.output import StepProgress, show_json
from llmstack.render.plan import show_plan
from llmstack.render.stack import show_connect, show_demo_note
from llmstack.render.status import screen
from llmstack.stackfile import ModelEntry, ServerEntry, StackRecord
from support.planner.draws import facts, machine

WIDTHS = [40, 60, 74, 80, 140]
PROGRAM = "'/home/me/my llm stack/stack'"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_called", "")
    called_as(PROGRAM)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "words",
    [("up", "--demo"), ("models", "list"), ("engine", "install", "--cuda"), ("up", "my model", "--ctx", 4096),
     ("upstream", "add", "x", "--base-url", "https://far.example/v1"), ("logs", "server", "-n", 50), ("up", "MODEL")],
)  # fmt: skip
def test_a_command_in_a_sentence_stays_on_one_line(width: int, words: tuple[object, ...]) -> None:
    command = command_line(*words)
    text = (
        f"something went wrong on this machine, so now do this: {command}   or that; and {command}, then go on reading"
    )
    lines = wrapped(text, width)
    assert sum(line.count(command) for line in lines) == 2
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= width or PROGRAM in line for line in lines)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("state", list(StackState))
def test_the_status_screen_keeps_its_commands_whole_and_its_words_too(width: int, state: StackState) -> None:
    stack = StackRecord(ModelEntry("a-model-with-a-long-name", "/m"), ServerEntry("127.0.0.1", 1, "b11434-cpu-rpc"))
    status = StackStatus(state, stack, {}, "systemd", Warm("cold", 0, None))
    for shown in (status, replace(status, stack=None), replace(status, interrupted=True)):
        lines = screen(shown, width)
        assert any(PROGRAM in line for line in lines)
        assert all(len(line) <= width or PROGRAM in line for line in lines)
        assert "  ".join(lines).count("a-model-with-a-long-name") == (shown.stack is not None)


@pytest.mark.parametrize("width", [80, 100])
def test_a_plan_fits_the_terminal_but_for_its_command_line(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    show_plan(make_plan(facts("qwen3moe-30b-a3b"), machine(12, 64, gpus=2), Goal()))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 10
    assert [line for line in lines if len(line) > width and not line.startswith("llama-server ")] == []


def test_a_finding_s_command_is_not_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    command = command_line("engine", "install", "--vulkan")
    show_finding(
        Finding("gpu", Level.WARN, f"your card is of no use to this engine; {command} gets one that can", "", "")
    )
    assert command in capsys.readouterr().out


def test_a_dumb_terminal_gets_lines_and_no_control_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with StepProgress() as progress:
        progress("planning")
        progress("loading")
    assert "\x1b" not in terminal.getvalue() and "\r" not in terminal.getvalue()
    assert len(terminal.getvalue().splitlines()) == 2


def test_json_is_whole_in_a_locale_without_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1", errors="replace"))
    show_json({"reason": "a → b"})
    sys.stdout.flush()
    assert b"a \\u2192 b" in raw.getvalue()


ROWS = [
    SurveyRow("slow-to-begin", "Q4_K_M", True, 1 << 30, 65536, 40.0, 20.0, PATIENCE_S * 4),
    SurveyRow("quick", "Q4_K_M", True, 1 << 30, 65536, 30.0, 900.0, 20.0),
]
CATALOG = {"slow-to-begin": models_screen.Model(quality=1), "quick": models_screen.Model(quality=9)}


def test_what_takes_long_to_begin_is_never_recommended(capsys: pytest.CaptureFixture[str]) -> None:
    assert recommended(ROWS, CATALOG) == "quick"
    assert recommended(ROWS[:1], CATALOG) == ""
    models_screen.show_list(ROWS[:1], CATALOG, {}, "this processor")
    assert "none is recommended" in capsys.readouterr().out


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_says_when_a_first_answer_begins_and_what_is_not_here_is_not_here(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models_screen, "columns", lambda stream: width)
    models_screen.show_list(ROWS, CATALOG, {}, "this processor")
    lines = capsys.readouterr().out.splitlines()
    slow = next(line for line in lines if "slow-to-begin" in line)
    assert "20 min" in slow and "begins" in lines[2]
    assert not any(line.rstrip().endswith("yes") for line in lines)


def test_commands_that_are_long_everywhere_leave_the_first_screen_whole(capsys: pytest.CaptureFixture[str]) -> None:
    called_as("'/a very long way/to the folder/of the checkout/stack'")
    show_demo_note()
    show_connect(StackRecord(ModelEntry("demo", "/m"), ServerEntry("127.0.0.1", 1)))
    shown = capsys.readouterr().out
    assert command_line("models", "list") in shown and command_line("claude") in shown


def test_a_command_that_does_not_fit_behind_its_line_s_start_stands_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was lost: a line's start of spaces is dropped where nothing fits behind it."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    text = f"{command_line('plan', 'a-model-with-a-long-name')} reads its header"
    assert fitted(text, 40, first=40) == [
        "",
        " " * 40 + command_line("plan", "a-model-with-a-long-name"),
        " " * 40 + "reads its header",
    ]
    assert fitted("short", 40, first=40) == ["short"]


def wide_lines(text: str, width: int) -> list[str]:
    """Without what is to be copied as it stands."""
    return [
        line for line in text.splitlines() if len(line) > width and PROGRAM not in line and "llama-server " not in line
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_plan_doctor_and_keys_fit_every_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    show_plan(make_plan(facts("qwen3moe-30b-a3b"), machine(12, 64, gpus=2), Goal()))
    cause, remedy = "a longer sentence that says why this is so, and what follows from it", command_line("up", "--demo")
    for level in Level:
        show_finding(
            Finding("sub-agents", level, f"a longer sentence about this machine; {remedy}, then go on", cause, remedy)
        )
    key = ClientKey("somebody-with-a-long-name", "id", "hash", 0.0, ("qwen*", "claude-*"), 2_000_000, 4e9)
    show_keys(list_keys(KeyBook((key,)), UseOfKeys(), 100.0))
    show_keys(list_keys(KeyBook(), UseOfKeys(), 100.0))
    shown = capsys.readouterr().out
    assert wide_lines(shown, width) == [] and shown.count(remedy) >= 5
    for words in ("trained on", "sub-agents", "somebody-with-a-long-name", "0 of 2,000,000"):
        assert words in " ".join(shown.split())


def test_a_command_that_is_mostly_quick_speaks_when_it_takes_long_and_of_the_step_that_it_is_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with StepProgress(quiet_s=60.0) as progress:
        progress("looking at this machine")
    assert terminal.getvalue() == "", "it was quick: nothing was there to take away"
    with StepProgress(quiet_s=60.0) as progress:
        progress("looking at this machine")
        progress("planning")
        progress._speak()
        assert "planning" in terminal.getvalue() and "machine" not in terminal.getvalue()
        progress("asking the engine")
        assert "asking the engine" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
