"""How a sentence spells a command of this program."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack import commands
from llmstack.commands import COMMANDS, again, called_as, command_line, quoted, typed

SOURCE = Path(commands.__file__).parent
_BY_HAND = re.compile(rf"(?<![\w/.-])llmstack (?:{'|'.join(COMMANDS)})(?![\w-])")
# Marks in the user's models.toml: they are found again by their text.
MARKS = {"# >>> llmstack upstream ", "# <<< llmstack upstream "}


@pytest.fixture(autouse=True)
def name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_called", "")


def test_a_command_is_spelled_by_the_usual_name_until_somebody_says_how() -> None:
    assert command_line("up", "--demo") == "llmstack up --demo"
    called_as("./stack")
    assert command_line("up", "--demo") == "./stack up --demo"


@pytest.mark.parametrize(
    ("words", "spelled"),
    [
        (("up", "MODEL"), "llmstack up MODEL"),
        (("models", "pull", "hf:owner/repo:Q4_K_M"), "llmstack models pull hf:owner/repo:Q4_K_M"),
        (("models", "pull", "…", "--allow-host", "a.example"), "llmstack models pull … --allow-host a.example"),
        (("bench", "compare", "last~1", "last"), "llmstack bench compare last~1 last"),
        (("up", "/models/my model.gguf", "--ctx", 4096), "llmstack up '/models/my model.gguf' --ctx 4096"),
        (("plan", "~/model.gguf"), "llmstack plan '~/model.gguf'"),
        (("plan", "é.gguf"), "llmstack plan é.gguf"),
        (("plan", ""), "llmstack plan ''"),
    ],
)
def test_words_are_quoted_only_where_a_shell_needs_it(words: tuple[object, ...], spelled: str) -> None:
    assert command_line(*words) == spelled


@given(st.text(max_size=20))
def test_every_word_is_one_word_again(word: str) -> None:
    assert shlex.split(f"x {quoted(word)}", posix=True) == ["x", word]


@pytest.mark.parametrize(
    ("words", "command", "changed", "spelled"),
    [
        (("up", "--demo", "--port", "5000"), "up", ("--port", 5001), "up --demo --port 5001"),
        (("up", "--port=5000", "my model"), "up", ("--port", 5001), "up 'my model' --port 5001"),
        (("claude", "--", "-p", "x"), "up", ("--port", 5001), "up --port 5001"),
        ((), "up", ("--port", 5001), "up --port 5001"),
    ],
)
def test_a_remedy_repeats_what_was_typed(
    words: tuple[str, ...], command: str, changed: tuple[object, ...], spelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_typed", ())
    typed(words)
    assert again(command, *changed) == f"llmstack {spelled}"


def literals(node: ast.AST) -> Iterator[ast.Constant]:
    """Every string but the docstrings."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child
        yield from literals(child)


def test_no_sentence_spells_a_command_by_hand() -> None:
    """`command_line` spells it: a command written as text is wrong for everybody who calls the program otherwise."""
    wrong = [
        f"{path.relative_to(SOURCE)}:{literal.lineno}: {literal.value!r}"
        for path in sorted(SOURCE.rglob("*.py"))
        for literal in literals(ast.parse(path.read_text()))
        if _BY_HAND.search(literal.value) and literal.value not in MARKS
    ]
    assert not wrong


def early_calls(node: ast.AST) -> Iterator[ast.Call]:
    """Calls that run while the module is read. Decorators do too: click's help, in modules that load when they run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from early_calls(child)


def test_commands_are_spelled_when_the_program_s_name_is_known() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{call.lineno}"
        for path in sorted(SOURCE.rglob("*.py"))
        for call in early_calls(ast.parse(path.read_text()))
        if isinstance(call.func, ast.Name) and call.func.id == "command_line"
    ]
    assert not wrong
