"""Files for a question: below one folder, text, within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmstack.delegate.files import MOST_BYTES, MOST_FILES, read_files
from llmstack.delegate.question import DelegatedQuestion
from llmstack.errors import BadInput


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha")
    (folder / "sub" / "b.txt").write_text("é")
    (tmp_path / "secret").write_text("key")
    return folder


def test_files_below_the_folder_are_read_by_their_names(root: Path) -> None:
    names = ["a.txt", "sub/b.txt", str(root / "a.txt"), "sub/../a.txt"]
    assert read_files(root, names) == dict(zip(names, ["alpha", "é", "alpha", "alpha"], strict=True))


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "link", "folder-link/secret", "sub/../../secret"])
def test_a_file_that_is_elsewhere_is_not_read_by_whatever_way(root: Path, name: str) -> None:
    (root / "link").symlink_to("../secret")
    (root / "folder-link").symlink_to("..")
    with pytest.raises(BadInput, match="is not below"):
        read_files(root, [name])


def test_what_is_no_text_file_is_refused_in_words(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "binary").write_bytes(b"\xff\xfe")
    (root / "zero").write_bytes(b"a\0b")
    for name, words in {
        "pipe": "no regular file",
        "sub": "no regular file",
        "binary": "no UTF-8",
        "zero": "no text",
        "gone": "No such file",
        "a\0b": "cannot be read",
        "x" * 5000: "cannot be read",
    }.items():
        with pytest.raises(BadInput, match=words):
            read_files(root, [name])


def test_all_files_together_have_a_bound(root: Path) -> None:
    for name in ("one", "two"):
        (root / name).write_text("x" * (MOST_BYTES // 2))
    assert len(read_files(root, ["one", "two"])) == 2
    with pytest.raises(BadInput, match="4 MiB together"):
        read_files(root, ["one", "two", "a.txt"])
    with pytest.raises(BadInput, match="65 files"):
        read_files(root, ["a.txt"] * (MOST_FILES + 1))


def test_files_stand_before_the_prompt_so_that_the_next_question_about_them_finds_them_read() -> None:
    first, second = (
        DelegatedQuestion(prompt, {"a": "x"}, 100).body("m")["messages"][0]["content"] for prompt in ("p", "q")
    )
    assert first[:-1] == second[:-1] and [part["text"] for part in (first[-1], second[-1])] == ["p", "q"]


def test_it_thinks_only_when_told_to() -> None:
    assert DelegatedQuestion("p", {}, 100).body("m")["thinking"] == {"type": "disabled"}
    assert DelegatedQuestion("p", {}, 100, think=True).body("m")["thinking"]["type"] == "enabled"
