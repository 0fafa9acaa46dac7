"""A word that people know from elsewhere, a mistyped one, a group's name alone."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from llmstack import commands
from llmstack.cli.group import CommandGroup, without_aliases
from llmstack.cli.main import group, run
from llmstack.cli.options import KeptFree, MemorySize
from llmstack.commands import ALIASES, COMMANDS
from llmstack.errors import BadInput


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path))
    monkeypatch.setattr(commands, "_called", "")
    monkeypatch.setattr(commands, "_typed", ())


@pytest.mark.parametrize("word", ALIASES)
def test_an_alias_is_no_command_of_its_own_and_leads_to_one(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert word not in COMMANDS
    assert run([word, "--help"]) == 0
    assert "Usage: llmstack" in capsys.readouterr().out or word == "version"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["start", "--demo"], ["up", "--demo"]),
        (["stop"], ["down"]),
        (["pull", "m"], ["models", "pull", "m"]),
        (["help", "models", "list"], ["models", "list", "--help"]),
        (["help"], ["--help"]),
        (["claude", "--", "start"], ["claude", "--", "start"]),
        ([], []),
    ],
)
def test_only_the_first_word_is_put_in_this_program_s_words(words: list[str], meant: list[str]) -> None:
    assert without_aliases(words) == meant


@pytest.mark.parametrize("words", [[], ["models"], ["engine"], ["cache"], ["upstream"]])
def test_a_group_s_name_alone_shows_its_help_and_is_no_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("Usage: llmstack") and shown.err == ""


@pytest.mark.parametrize(
    ("words", "next_command"),
    [
        (["statsu"], "llmstack status"),
        (["statsu", "--json"], "llmstack status --json"),
        (["doctr", "--all"], "llmstack doctor --all"),
        (["upstraem", "list"], "llmstack upstream list"),
        (["models", "lits"], "llmstack models list"),
        (["engine", "instal", "--cpu"], "llmstack engine install --cpu"),
        (["upstream", "tset", "x"], "llmstack upstream test x"),
        (["cache", "claer"], "llmstack cache clear"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_whole_line_that_was_meant(
    words: list[str], next_command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert f" next: {next_command}\n" in capsys.readouterr().err


def test_a_word_that_is_near_to_nothing_leads_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["xyzzy"]) == 2
    assert " next: llmstack --help\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["models", "ls"], "models list"),
        (["models", "rm"], "models remove"),
        (["models", "download"], "models pull"),
        (["engine", "ls"], "engine list"),
        (["engine", "delete"], "engine remove"),
        (["upstream", "check"], "upstream test"),
        (["upstream", "ls"], "upstream list"),
        (["cache", "ls"], "cache list"),
    ],
)
def test_other_words_work_below_a_group(words: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--help"]) == 0
    assert f"Usage: llmstack {meant}" in capsys.readouterr().out


def test_every_group_takes_other_words() -> None:
    """A new group that is a plain one of click's would answer a typo with its help."""
    context = click.Context(group)
    loaded = {name: group.get_command(context, name) for name in COMMANDS}
    groups = {name for name, command in loaded.items() if isinstance(command, click.Group)}
    assert groups == {name for name, command in loaded.items() if isinstance(command, CommandGroup)} != set()


@pytest.mark.parametrize(
    ("text", "mib"),
    [("12", 12288), ("12.5", 12800), ("1023", 1023 << 10), ("1024", 1024), ("12288", 12288), ("12GiB", 12288),
     ("12g", 12288), ("512MiB", 512), ("0", 0), (" 24 ", 24576)],
)  # fmt: skip
def test_a_bare_number_is_what_people_mean_by_it(text: str, mib: int) -> None:
    assert MemorySize().convert(text, None, None) == mib


@pytest.mark.parametrize(("text", "mib"), [("2", 2048), ("512", 512), ("desktop", 1024)])
def test_memory_to_keep_free_is_counted_in_smaller_numbers(text: str, mib: int) -> None:
    assert KeptFree().convert(text, None, None) == mib


@pytest.mark.parametrize("text", ["abc", "12XB", "-1", "nan", "inf", "12 12", ""])
def test_what_is_no_amount_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        MemorySize().convert(text, None, None)
    assert "--vram 12GiB" in refused.value.next
