"""Files that are written whole or not at all, and what runs this program from any folder."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from llmstack import commands, paths
from llmstack.errors import BadInput
from llmstack.paths import Home


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666])
def test_a_file_has_its_mode_whatever_the_umask_says(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        paths.write_atomic(tmp_path / "file", b"new", mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_replaced_is_as_it_was_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError):
        paths.write_atomic(tmp_path / "file", b"new", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").is_dir()


def test_what_outlives_the_shell_is_called_by_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "a folder" / "stack"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "_called", commands.quoted("a folder/stack"))
    assert paths.own_command() == (str(program),)


@pytest.mark.parametrize("called", ["", "docker exec box llmstack", "/nowhere/llmstack"])
def test_what_is_no_program_here_is_called_by_this_interpreter(monkeypatch: pytest.MonkeyPatch, called: str) -> None:
    monkeypatch.setattr(commands, "_called", called)
    assert paths.own_command() == (sys.executable, "-P", "-m", "llmstack")


def test_a_catalog_of_the_user_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path, tmp_path, tmp_path)
    assert paths.catalog_texts(home).user is None
    home.catalog.mkdir()
    with pytest.raises(BadInput, match=r"models\.toml cannot be read"):
        paths.catalog_texts(home)
    assert paths.catalog_texts(home, with_user=False).user is None
