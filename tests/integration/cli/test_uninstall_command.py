"""`uninstall` takes back what was written outside its folders, or names it, before the record of it goes."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from llmstack.cli.main import run
from llmstack.client.outside import ollama_models, remember_ollama_model
from llmstack.client.settings import HELPER, StackSettings, apply
from llmstack.deploy.apply import deploy_lock
from llmstack.fetch.models_dir import write_record
from llmstack.launch.agents import PointFacts
from llmstack.launch.lasting import LASTING, TokenSource
from llmstack.launch.written import write
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


def test_an_agent_s_settings_are_what_they_were_or_it_stops_before_anything_is_deleted(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text = tmp_path / "user" / ".codex" / "config.toml", 'model = "theirs"  # mine\n'
    file.parent.mkdir()
    file.write_text(text)
    stack = PointFacts("http://127.0.0.1:5000", "t", "m", None, None, home.state / "launch")
    token = TokenSource(home.token, ("llmstack", "token"))
    write(home, "codex", LASTING["codex"](stack, token, {"HOME": str(tmp_path / "user")}))
    ours = file.read_text()
    file.write_text(ours.replace('wire_api = "responses"', 'wire_api = "chat"'))
    home.catalog.write_text("# mine\n")
    assert run(["uninstall"]) == 2
    assert f"It takes this stack out of {file} again." in capsys.readouterr().out
    assert run(["uninstall", "--yes"]) == 1
    assert str(file) in capsys.readouterr().err and home.catalog.exists()
    file.write_text(ours)
    assert run(["uninstall", "--yes"]) == 0
    assert f"undone   {file}" in capsys.readouterr().out
    assert file.read_text() == text and not home.state.exists()


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


def model(folder: Path, name: str, *, ours: bool) -> Path:
    path = folder / "owner" / "repo" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    if ours:
        write_record(path, "https://example.org/x", "00")
    return path


def moved(folder: Path, to: Path) -> Path:
    """The folder lies on another disk, a link in its place."""
    to.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(to)
    folder.symlink_to(to)
    return to


@pytest.mark.parametrize("name", ["config", "state", "data", "cache"])
def test_a_folder_that_is_a_link_to_another_disk_goes_with_what_is_in_it(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    model(home.models, "a.gguf", ours=True)
    target = moved(getattr(home, name), tmp_path / "disk" / name)
    assert run(["uninstall", "--yes"]) == 0
    assert not target.exists() and not home.state.parent.exists(), capsys.readouterr().out


def test_behind_a_link_to_shared_models_only_ours_go_and_the_others_are_named(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = moved(home.models, tmp_path / "disk" / "models")
    ours, foreign = model(target, "ours.gguf", ours=True), model(target, "theirs.gguf", ours=False)
    (target / "owner" / ".config.json").write_text("{}")
    assert run(["uninstall", "--yes", "--json"]) == 0
    assert [entry["path"] for entry in json.loads(capsys.readouterr().out)["kept"]] == [str(target)]
    assert foreign.exists() and (target / "owner" / ".config.json").exists()
    assert sorted(path.name for path in ours.parent.iterdir()) == ["theirs.gguf"]
    assert not home.state.parent.exists()


def test_a_link_out_of_our_folders_is_taken_away_and_what_it_leads_to_stays(home: Home, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "mine").write_text("x")
    (home.data / "elsewhere").symlink_to(tmp_path / "disk")
    (home.cache / "gone").symlink_to(tmp_path / "nowhere")
    assert run(["uninstall", "--yes"]) == 0
    assert (tmp_path / "disk" / "mine").exists() and not home.state.parent.exists()


def test_models_that_are_kept_stay_behind_their_link(home: Home, tmp_path: Path) -> None:
    data = moved(home.data, tmp_path / "disk" / "data")
    models = moved(data / "models", tmp_path / "larger" / "models")
    here = model(models, "a.gguf", ours=True)
    (home.data / "engines").mkdir()
    assert run(["uninstall", "--yes", "--keep-models"]) == 0
    assert here.exists() and home.models.samefile(models)
    assert not (data / "engines").exists() and not home.state.exists()


def test_a_disk_that_is_mounted_on_a_folder_is_emptied_and_named(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert os.geteuid() == 0, "this test mounts a small disk: run it as root"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", home.models], check=True)
    try:
        model(home.models, "a.gguf", ours=True)
        assert run(["uninstall", "--yes", "--json"]) == 0
        assert [entry["path"] for entry in json.loads(capsys.readouterr().out)["kept"]] == [str(home.models)]
        assert not any(home.models.iterdir()) and not home.state.exists()
    finally:
        subprocess.run(["umount", "-l", home.models], check=True)


def test_a_command_that_waited_for_it_begins_when_nothing_is_left_to_remove(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.data / "models" / "a").write_text("x")
    waiting = threading.Event()
    left: list[list[str]] = []

    def other() -> None:
        with deploy_lock(home):
            left.append(sorted(path.name for folder in home.folders() for path in folder.glob("*")))
            (home.state / "new").write_text("x")

    thread = threading.Thread(target=other)

    def services(*_: object) -> list[str]:
        thread.start()  # it meets the lock that uninstall holds
        waiting.wait(0.3)
        return []

    monkeypatch.setattr("llmstack.deploy.uninstall._remove_services", services)
    assert run(["uninstall", "--yes"]) == 0
    thread.join(30)
    assert left == [["deploy.lock"]], "its own, in a folder of its own"
    assert (home.state / "new").exists(), "and nobody removes what it writes"
