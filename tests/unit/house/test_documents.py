"""The documents speak of commands that exist, with options that they take, and of files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from llmstack.cli.main import group
from llmstack.commands import COMMANDS
from support.paths import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_CALL = re.compile(r"(?:^\$ |`)(?:\./stack|llmstack) ([a-z][a-z-]*)((?: +[^`\n#|]*)?)", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def option_names(command: click.Command, words: list[str]) -> set[str]:
    """The options of a command, and of the subcommand that the words name."""
    context = click.Context(command)
    names = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group) and words:
        sub = command.get_command(context, words[0])
        if sub is not None:
            names |= option_names(sub, words[1:])
    return names | {"--help", "-h"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_it_exists_and_takes_those_options(document: Path) -> None:
    wrong = []
    for name, rest in _CALL.findall(document.read_text()):
        if name in ("test",):
            continue
        if name not in COMMANDS:
            wrong.append(f"llmstack {name}: no such command")
            continue
        command = group.get_command(click.Context(group), name)
        assert command is not None
        words = rest.partition(" -- ")[0].split()
        known = option_names(command, [word for word in words if not word.startswith("-")])
        wrong += [
            f"llmstack {name}{rest}: no option {word}"
            for word in words
            if re.match(r"^--?[a-z]", word) and word.partition("=")[0] not in known
        ]
    assert not wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_in_it_leads_somewhere(document: Path) -> None:
    missing = [link for link in _LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert not missing


_FOLDERS = ("src", "tests", "benchmarks", "templates", "lock")
_OTHERS = ("models.toml", "pyproject.toml", "stack", ".ci/run")
_DOCUMENT = re.compile(r"(?<![\w./-])docs/[\w./-]*\w")
_FILE = re.compile(r"(?<![\w./-])(?:tests|benchmarks|src|lock)/[\w./-]*\w")


def test_every_document_that_code_names_exists() -> None:
    every = [path for folder in _FOLDERS for path in (ROOT / folder).rglob("*")]
    files = [path for path in every if path.suffix in (".py", ".toml", ".j2")]
    files += [ROOT / name for name in _OTHERS]
    missing = []
    for path in sorted(files):
        names = set(_DOCUMENT.findall(path.read_text()))
        missing += [f"{path.relative_to(ROOT)}: {name}" for name in sorted(names) if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_of_the_checkout_in_it_exists(document: Path) -> None:
    names = set(_FILE.findall(document.read_text()))
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []
