"""Three kinds of model, each with a state of its own nature: the same words after a restart, and nothing read twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.models import write_model
from support.stack import Stack
from support.talker import Talker


@pytest.mark.parametrize(
    ("kind", "flags"),
    [("dense", ()), ("hybrid", ()), ("window", ("--set", "swa-full=on"))],
    ids=["dense", "hybrid", "sliding window with its whole history"],
)
def test_a_restart_changes_neither_the_words_nor_what_is_read(
    kind: str, flags: tuple[str, ...], stack_home: Stack, tmp_path: Path
) -> None:
    model = write_model(kind, tmp_path / f"{kind}.gguf")
    ran = stack_home.run("up", str(model), "--ctx", "16384", *flags, *stack_home.ports)
    assert ran.status == 0, ran.err

    def ask(session: str, question: str) -> tuple[str, int, int]:
        answer = Talker(stack_home.url, stack_home.token, session=session, lines=80).ask(question, max_tokens=24)
        return answer.text, answer.cached, answer.total

    cold, prefix, total = ask("one", "the first question")
    assert total - prefix < 64 < prefix and cold
    ask("two", "something else entirely")
    assert stack_home.run("restart").status == 0
    text, cached, _ = ask("three", "the first question")
    assert cached >= prefix - 1
    assert text == cold
    text, cached, _ = ask("four", "the first question")
    assert cached >= prefix - 4
    assert text == cold


def test_a_sliding_window_without_its_history_answers_the_same_and_saves_nothing(
    stack_home: Stack, tmp_path: Path
) -> None:
    model = write_model("window", tmp_path / "window.gguf")
    ran = stack_home.run("up", str(model), "--ctx", "16384", "--set", "swa-full=off", *stack_home.ports)
    assert ran.status == 0, ran.err
    first = Talker(stack_home.url, stack_home.token, lines=80).ask("the first question", max_tokens=24)
    assert stack_home.run("restart").status == 0
    again = Talker(stack_home.url, stack_home.token, lines=80).ask("the first question", max_tokens=24)
    assert again.text == first.text
    assert not list((stack_home.root / "cache" / "slots").glob("*/*.kv"))
