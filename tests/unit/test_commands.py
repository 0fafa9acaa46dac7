"""How a sentence spells a command of this program."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack import commands
from llmstack.commands import called_as, command_line, quoted


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
