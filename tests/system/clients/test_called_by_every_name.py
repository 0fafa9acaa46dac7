"""Every way to call this program, and every output of it that another program reads, run as it was printed.

A checkout in a folder with spaces is called by a relative path, an absolute one, a link and `sh stack`; an installed
program by its name and by its path. From each, the shell functions, the environment, the settings and the commands in
errors must work, from any other folder.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support.stack import Stack

ROOT = Path(__file__).resolve().parents[3]
CLAUDE = f"""#!{sys.executable}
import json, os, sys
print(json.dumps({{"args": sys.argv[1:], "env": dict(os.environ)}}))
"""
CATALOG = """
[profiles.there]
gateway = "anthropic"
base_url = "http://127.0.0.1:9"
token_env = "THERE_KEY"
"""


@dataclass(frozen=True)
class Called:
    """argv: what is typed. folder: where. spelled: what sentences must show, as a shell takes it."""

    argv: tuple[str, ...]
    folder: Path
    spelled: str
    home: Path
    path: str
    stack_home: str = "its home"  # relative: what is printed must hold in every folder

    def environment(self) -> dict[str, str]:
        return {
            "PATH": self.path,
            "HOME": str(self.home),
            "LLMSTACK_HOME": self.stack_home,
            "THERE_KEY": "key of there",
            "NO_COLOR": "1",
        }

    def run(self, *words: str, status: int = 0) -> str:
        ran = self._start([*self.argv, *words], self.folder)
        assert ran.returncode == status, ran.stdout + ran.stderr
        return ran.stdout

    def shell(self, script: str, folder: Path, name: str = "bash") -> str:
        program = shutil.which(name)
        assert program is not None, f"install {name}"
        options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"], "sh": []}[name]
        ran = self._start([program, *options, "-c", script], folder)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def _start(self, argv: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )  # fmt: skip


def checkout(folder: Path) -> Path:
    """A checkout whose .venv runs this Python: the launcher is the real one, nothing is installed anew."""
    (folder / "lock").mkdir(parents=True)
    shutil.copy2(ROOT / "stack", folder / "stack")
    lock = shutil.copy2(ROOT / "lock" / "runtime.txt", folder / "lock" / "runtime.txt")
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    with lock.open("rb") as stream:
        digest = subprocess.run(["cksum"], stdin=stream, capture_output=True, text=True, check=True).stdout.strip()
    (folder / ".venv" / ".made-runtime").write_text(f"{folder}\n{digest}\n")
    return folder


@pytest.fixture(params=["relative", "absolute", "link", "by sh", "installed", "installed by path"])
def called(request: pytest.FixtureRequest, tmp_path: Path) -> Called:
    base = tmp_path.resolve()
    tools = base / "tools"
    (base / "work").mkdir()
    tools.mkdir()
    (tools / "claude").write_text(CLAUDE)
    (tools / "claude").chmod(0o755)
    folder = checkout(base / "a folder" / "llm stack")
    program = folder / "stack"
    script = base / "my bin" / "llmstack"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom llmstack.__main__ import main\nmain()\n")
    script.chmod(0o755)
    path = f"{tools}:/usr/bin:/bin"
    match request.param:
        case "relative":
            argv, cwd, spelled = ("./stack",), folder, "./stack"
        case "absolute":
            argv, cwd, spelled = (str(program),), base, f"'{program}'"
        case "link":
            link = base / "links" / "ls"
            link.parent.mkdir()
            link.symlink_to(os.path.relpath(program, link.parent))
            argv, cwd, spelled = ("links/ls",), base, "links/ls"
        case "by sh":
            argv, cwd, spelled = ("sh", "stack"), folder, f"'{program}'"
        case "installed":
            path = f"{script.parent}:{path}"
            argv, cwd, spelled = (str(script),), base, "llmstack"
        case _:
            argv, cwd, spelled = ("my bin/llmstack",), base, "'my bin/llmstack'"
    catalog = cwd / "its home" / "config" / "models.toml"
    catalog.parent.mkdir(parents=True)
    catalog.write_text(CATALOG)
    return Called(argv, cwd, spelled, base, path)


@pytest.mark.usefixtures("shells")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_ccq_runs_from_any_folder(called: Called, tmp_path: Path, shell: str) -> None:
    functions = called.run("shell-init", shell, "--profile", "there")
    seen = json.loads(called.shell(f"{functions}\nccq -p 'two words'", tmp_path / "work", shell))
    assert seen["args"] == ["-p", "two words"]
    assert seen["env"]["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:9"
    assert seen["env"]["ANTHROPIC_AUTH_TOKEN"] == "key of there"
    assert "LLMSTACK_COMMAND" not in seen["env"]  # what Claude Code starts was not called so


def test_a_file_in_the_folder_is_not_taken_for_a_module(called: Called, tmp_path: Path) -> None:
    for name in ("types.py", "llmstack.py", "click.py"):
        (tmp_path / "work" / name).write_text("raise SystemExit(9)\n")
    functions = called.run("shell-init", "bash", "--profile", "there")
    assert json.loads(called.shell(f"{functions}\nccq x", tmp_path / "work"))["args"] == ["x"]


def test_the_environment_is_one_that_a_shell_takes(called: Called, tmp_path: Path) -> None:
    lines = called.run("env", "--profile", "there")
    seen = json.loads(called.shell(f"{lines}\nclaude", tmp_path / "work", "sh"))
    assert seen["env"]["LLMSTACK_PROFILE"] == "there"
    assert json.loads(called.run("env", "--profile", "there", "--json"))["LLMSTACK_PROFILE"] == "there"


def test_the_token_command_of_the_settings_prints_the_token(called: Called, stack: Stack, tmp_path: Path) -> None:
    """Claude Code runs apiKeyHelper by `sh -c`, in the folder of its project."""
    called = replace(called, stack_home=str(stack.root))
    token = called.run("token")
    file = tmp_path / "work" / "settings.json"
    written = called.run("claude-settings", "--file", str(file))
    helper = json.loads(file.read_text())["apiKeyHelper"]
    assert called.shell(helper, tmp_path / "work", "sh") == token
    undo = written.splitlines()[-1].partition(": ")[2]
    assert undo.startswith(f"{called.spelled} claude-settings")
    called.shell(undo, called.folder, "sh")
    assert not file.exists()


def test_the_next_command_of_an_error_runs_as_it_stands(called: Called) -> None:
    error = json.loads(called.run("uninstall", "--json", status=2))
    assert error["next"] == f"{called.spelled} uninstall --yes --json"
    assert "removed" in json.loads(called.shell(error["next"], called.folder, "sh"))


def test_a_wrong_word_leads_to_help_that_can_be_copied(called: Called) -> None:
    error = json.loads(called.run("plan", "--wrong", "--json", status=2))
    assert error["next"] == f"{called.spelled} plan --help"
    assert f"Usage: {called.spelled} plan" in called.shell(error["next"], called.folder, "sh")
    assert f'eval "$({called.spelled} shell-init bash)"' in called.run("shell-init", "--help")
