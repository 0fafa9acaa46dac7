"""`llmstack key` by its words: what it prints, as JSON, and where it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmstack.cli.main import run


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path))
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = run(["key", *words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_a_key_is_shown_once_and_stands_in_no_file(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    words = ("add", "kim", "--models", "qwen*,a*", "--tokens-per-day", "5000", "--expires", "2999-12-31", "--json")
    status, out, _ = call(capsys, *words)
    made = json.loads(out)
    assert status == 0 and made["key"].startswith("sk-llmstack-")
    assert (made["name"], made["models"], made["tokens_per_day"]) == ("kim", ["qwen*", "a*"], 5000)
    assert made["urls"] == ["http://127.0.0.1:5000"]
    _, listed, _ = call(capsys, "list", "--json")
    [row] = json.loads(listed)["keys"]
    assert (row["name"], row["state"], row["tokens_today"], row["last_used"]) == ("kim", "active", 0, None)
    _, shown, _ = call(capsys, "list")
    assert "0 of 5,000 tokens today" in shown and "never used" in shown and "qwen*" in shown
    everything = shown + listed + "".join(path.read_text() for path in root.rglob("*") if path.is_file())
    assert made["key"] not in everything


def test_in_words_the_key_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capsys, "add", "kim")
    assert out.splitlines()[0].startswith("sk-llmstack-") and "up --listen" in out
    _, out, _ = call(capsys, "rotate", "kim")
    assert out.splitlines()[0].startswith("sk-llmstack-") and "10 min more" in out
    status, out, _ = call(capsys, "revoke", "KIM", "--yes")
    assert status == 0 and "the key of kim has ended" in out
    assert call(capsys, "add", "kim")[0] == 0, "the name is free again"


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("add", "owner"), 2, "own token"),
        (("add", "a b"), 2, "no name"),
        (("add", "kim", "--expires", "2001-01-01"), 2, "in the past"),
        (("add", "kim", "--tokens-per-day", "0"), 2, "tokens-per-day"),
        (("rotate", "nobody"), 2, "key add nobody"),
        (("revoke", "nobody", "--yes"), 2, "there is no key of nobody"),
        (("revok", "kim"), 2, "key revoke kim"),
        (("add",), 2, "NAME"),
    ],
)
def test_what_cannot_be_is_said_with_what_can(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, says: str
) -> None:
    code, _, err = call(capsys, *words)
    assert code == status and says in err, err


def test_a_second_key_for_a_name_is_refused_and_both_ways_on_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "add", "kim")
    code, out, err = call(capsys, "add", "Kim", "--json")
    assert code == 2 and "key rotate kim" in err and "key revoke kim" in err and "rotate" in json.loads(out)["next"]


@pytest.mark.parametrize(("word", "means"), [("ls", "list"), ("create", "add"), ("rm", "revoke"), ("delete", "revoke")])
def test_other_words_for_it(capsys: pytest.CaptureFixture[str], word: str, means: str) -> None:
    assert call(capsys, word, "--help")[0] == 0
    assert call(capsys, word, "--help")[1].startswith(f"Usage: llmstack key {means}")


def test_revoking_asks_and_without_a_terminal_changes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(capsys, "add", "kim")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    code, _, err = call(capsys, "revoke", "kim")
    assert code == 2 and "key revoke kim --yes" in err
    assert "active" in call(capsys, "list")[1]
