"""Three kinds of model, each with a state of its own nature: the same words after a restart, and nothing read twice.

On the built engine (11434), whose slot files hold no checkpoints, and on the embedded one (11549), whose files do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.models import write_model
from support.stack import Stack
from support.talker import Talker

Ask = Callable[[str, str], tuple[str, int, int]]
BEFORE_ITS_END = 64  # a checkpoint lies a few tokens before the end of a prompt (server-context.cpp)


@pytest.fixture
def on_engine(stack_home: Stack, request: pytest.FixtureRequest) -> Callable[[str], Stack]:
    """The stack's home with this engine in use."""

    def use(name: str) -> Stack:
        if name == "built":
            name = str(request.getfixturevalue("built_engine") / "llama-server")
        stack_home.do("engine", "use", name)
        return stack_home

    return use


def asker(stack: Stack) -> Ask:
    def ask(session: str, question: str) -> tuple[str, int, int]:
        answer = Talker(stack.url, stack.token, session=session, lines=80).ask(question, max_tokens=24)
        return answer.text, answer.cached, answer.total

    return ask


def saved(stack: Stack) -> list[Path]:
    return list((stack.root / "cache" / "slots").glob("*/*.kv"))


@pytest.mark.parametrize(
    ("engine", "kind", "flags"),
    [
        ("built", "dense", ()), ("built", "hybrid", ()), ("built", "window", ("--set", "swa-full=on")),
        ("embedded", "hybrid", ()), ("embedded", "window", ()),
    ],
)  # fmt: skip
def test_a_restart_changes_neither_the_words_nor_what_is_read(
    engine: str, kind: str, flags: tuple[str, ...], on_engine: Callable[[str], Stack], tmp_path: Path
) -> None:
    stack, model = on_engine(engine), write_model(kind, tmp_path / f"{kind}.gguf")
    ran = stack.run("up", str(model), "--ctx", "8192", *flags, *stack.ports)
    assert ran.status == 0, ran.err
    ask = asker(stack)
    cold, prefix, total = ask("one", "the first question")
    assert total - prefix < BEFORE_ITS_END < prefix and cold
    ask("two", "something else entirely")
    assert stack.run("restart").status == 0
    text, cached, _ = ask("three", "the first question")
    assert cached >= prefix - BEFORE_ITS_END
    assert text == cold
    text, cached, _ = ask("four", "the first question")
    assert cached >= prefix - BEFORE_ITS_END
    assert text == cold
    if engine == "embedded":  # its slot files hold checkpoints
        argv = stack.record()["server"]["argv"]
        assert "--swa-full" not in argv and int(argv[argv.index("-ctxcp") + 1]) >= 4
        goes_on_after_a_restart(stack)


def goes_on_after_a_restart(stack: Stack) -> None:
    """What was saved after an answer is read again where the conversation goes on, with nothing computed to its end."""
    talker = Talker(stack.url, stack.token, lines=80)
    first = talker.ask("another question", max_tokens=24)
    turns = ["another question", {"role": "assistant", "content": first.text}, "and the second"]
    warm = talker.ask(*turns, max_tokens=24)
    assert warm.cached >= first.total - BEFORE_ITS_END
    turns += [{"role": "assistant", "content": warm.text}, "and the third"]
    assert stack.run("restart").status == 0
    assert saved(stack)
    after = Talker(stack.url, stack.token, lines=80).ask(*turns, max_tokens=24)
    assert after.cached >= warm.total - BEFORE_ITS_END


def test_what_another_build_saved_is_never_used_and_is_there_when_that_build_comes_back(
    on_engine: Callable[[str], Stack], tmp_path: Path
) -> None:
    stack, model = on_engine("built"), write_model("hybrid", tmp_path / "hybrid.gguf")
    assert stack.run("up", str(model), "--ctx", "8192", *stack.ports).status == 0
    text, prefix, _ = asker(stack)("one", "the first question")
    theirs = {path.parent for path in saved(stack)}
    on_engine("embedded")
    assert stack.run("up", "--ctx", "8192", *stack.ports).status == 0
    asker(stack)("one", "the first question")
    assert {path.parent for path in saved(stack)} - theirs  # what this build saves lies in a folder of its own
    on_engine("built")
    assert stack.run("up", "--ctx", "8192", *stack.ports).status == 0
    again, cached, _ = asker(stack)("one", "the first question")
    assert cached >= prefix - BEFORE_ITS_END
    assert again == text


def test_a_sliding_window_without_its_history_answers_the_same_and_saves_nothing_where_files_hold_no_checkpoints(
    on_engine: Callable[[str], Stack], tmp_path: Path
) -> None:
    stack, model = on_engine("built"), write_model("window", tmp_path / "window.gguf")
    ran = stack.run("up", str(model), "--ctx", "8192", "--set", "swa-full=off", *stack.ports)
    assert ran.status == 0, ran.err
    first = Talker(stack.url, stack.token, lines=80).ask("the first question", max_tokens=24)
    assert stack.run("restart").status == 0
    again = Talker(stack.url, stack.token, lines=80).ask("the first question", max_tokens=24)
    assert again.text == first.text
    assert not saved(stack)
