"""`uninstall` takes back what was written outside its folders, or names it, before the record of it goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmstack.cli.main import run
from llmstack.client.outside import ollama_models, remember_ollama_model
from llmstack.client.settings import HELPER, StackSettings, apply
from llmstack.paths import Home
from llmstack.paths import home as this_home

SETTINGS = StackSettings({"ANTHROPIC_BASE_URL": "http://127.0.0.1:5000"}, "llmstack token", 300000)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "stack"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    (tmp_path / "user").mkdir()
    return this_home().make()


def test_claude_code_s_settings_are_what_they_were(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "user" / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_text('{"model": "opus"}')
    apply(home, file, SETTINGS)
    assert run(["uninstall", "--yes"]) == 0
    assert file.read_text() == '{"model": "opus"}'
    assert f"undone   {file}" in capsys.readouterr().out
    assert not home.state.exists()


def test_one_that_cannot_be_put_back_stops_it_before_anything_is_deleted(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "project" / ".claude" / "settings.local.json"
    file.parent.parent.mkdir()
    apply(home, file, SETTINGS)
    file.write_text("{" + HELPER)
    home.catalog.write_text("# mine\n")
    assert run(["uninstall", "--yes"]) == 1
    assert str(file) in capsys.readouterr().err
    assert home.catalog.exists()
    file.unlink()
    assert run(["uninstall", "--yes"]) == 0


def test_what_cannot_be_undone_here_is_named_with_the_way(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remember_ollama_model(home, "http://127.0.0.1:11434", "qwen3:1.7b-64k")
    remember_ollama_model(home, "http://127.0.0.1:11434", "qwen3:1.7b-64k")
    assert len(ollama_models(home)) == 1
    lines = ["alias ll='ls -l'", "# llmstack shell-init bash", '  eval "$(/opt/my stack/stack shell-init bash)"']
    (tmp_path / "user" / ".bashrc").write_text("\n".join(lines))
    assert run(["uninstall", "--yes", "--json"]) == 0
    left = {entry["path"]: entry["why"] for entry in json.loads(capsys.readouterr().out)["kept"]}
    assert "ollama rm qwen3:1.7b-64k" in left["qwen3:1.7b-64k"]
    assert [Path(path).name for path in left if "bashrc" in path] == [".bashrc:3"]


def test_without_a_terminal_it_asks_for_yes_and_removes_nothing(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    (home.config / "keys").mkdir()
    (home.config / "keys" / "cerebras").touch()
    home.catalog.write_text("# mine\n")
    assert run(["uninstall"]) == 2
    shown = capsys.readouterr()
    assert "uninstall --yes" in shown.err and "interrupted" not in shown.err
    assert str(home.catalog) in shown.out and "keys of cerebras" in shown.out, "hand-written things are named"
    assert home.catalog.exists()
