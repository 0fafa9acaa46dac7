"""Every command that a sentence of this program can name exists, with each option that is named beside it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from llmstack import commands
from llmstack.cli.main import group
from llmstack.commands import ALIASES

SOURCE = Path(commands.__file__).parent
VALUE = "value"  # for what is only known when the sentence is spoken


@dataclass(frozen=True)
class Named:
    """words: of the command; VALUE for one that is no literal, None for any number of them."""

    where: str
    words: tuple[str | None, ...]


def named_commands() -> Iterator[Named]:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("command_line", "again")
            ):
                words = tuple(word for argument in node.args for word in _words(argument))
                if words and isinstance(words[0], str) and words[0] != VALUE:
                    yield Named(f"{path.relative_to(SOURCE)}:{node.lineno}", words)


def _words(argument: ast.expr) -> Iterator[str | None]:
    if isinstance(argument, ast.Constant):
        yield str(argument.value) if argument.value is not None else None
    elif isinstance(argument, ast.Starred):
        yield None
    elif isinstance(argument, ast.JoinedStr) and isinstance(first := argument.values[0], ast.Constant):
        yield f"{first.value}{VALUE}"
    else:
        yield VALUE


NAMED = list(named_commands())


def test_there_are_many() -> None:
    assert len(NAMED) > 100


@pytest.mark.parametrize("named", NAMED, ids=lambda named: named.where)
def test_the_command_and_its_options_exist(named: Named) -> None:
    assert named.words[0] not in ALIASES, "a sentence uses the program's own words"
    check_that_it_exists(named)


def check_that_it_exists(named: Named) -> None:
    first, *rest = named.words
    context = click.Context(group, info_name="llmstack")
    command: click.Command | None = group.get_command(context, str(first))
    assert command is not None, f"{named.where}: there is no {first}"
    while isinstance(command, click.Group):
        if not rest or rest[0] in (None, VALUE, "--help"):
            return
        command = command.get_command(context, str(rest.pop(0)))
        assert command is not None, f"{named.where}: {named.words}"
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known = options | {"--help", "-h", "--"}
    wrong = [
        w for w in rest if w is not None and w.startswith("-") and VALUE not in w and w.partition("=")[0] not in known
    ]
    assert not wrong, f"{named.where}: {named.words}"
