"""README from top to bottom on a fresh account: each command as it stands there, in its order, without a network."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

from support.paths import ROOT

README = (ROOT / "README.md").read_text()
# What no test can do, and why.
LEFT_OUT = {
    "./stack test": "this is it",
    "npm install -g @anthropic-ai/claude-code": "the fixture has installed it",
    "./stack up qwen3.6-35b-a3b": "20 GB from a hub",
    "./stack engine install": "a release from GitHub; tests/system/engine has one on loopback",
    "./stack models find qwen coder": "asks a hub; tests/integration/fetch has one on loopback",
}
# What a person has to fill in, or to end.
MEANT = {
    "key add NAME": "key add kim",
    "logs -f": "logs",
    "uninstall": "uninstall --yes",
    "web-search use searxng URL": "web-search use searxng http://127.0.0.1:8888",
}


PROJECT = "cd ~/my-project && llmstack claude"
IN_A_PROJECT = '(mkdir ~/my-project && cd ~/my-project && PATH="$HOME/.local/bin:$PATH" && llmstack claude -- -p ping)'


def commands() -> list[str]:
    """Of the blocks and of the table, in their order."""
    found: list[str] = []
    for line in README.splitlines():
        if line.startswith("$ "):
            found.append(line[2:].partition("  #")[0].partition(" # ")[0].strip())
        elif line.startswith("| `"):
            found += [f"./stack {typed}" for typed in re.findall(r"`llmstack ([^`]+)`", line.split("|")[1])]
    return [command for command in found if command not in LEFT_OUT]


def meant(command: str) -> str:
    typed = command.removeprefix("./stack ")
    if command == PROJECT:
        return IN_A_PROJECT
    return f"./stack {MEANT[typed]}" if typed in MEANT else command


def test_each_command_works_in_its_order(claude_code: Path, tmp_path: Path) -> None:
    listed = commands()
    assert len(listed) > 10 and all(name in README for name in MEANT)
    home = tmp_path / "home"
    home.mkdir()
    script = ["ip link set lo up"]
    for number, command in enumerate(listed):
        script.append(f"{meant(command)} >{home}/{number}.out 2>{home}/{number}.err; echo $? >{home}/{number}.rc")
    environment = {"PATH": f"{claude_code.parent}:{os.environ['PATH']}", "HOME": str(home), "IS_SANDBOX": "1"}
    try:
        subprocess.run(
            ["unshare", "--net", "sh", "-c", "\n".join(script)],
            env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, timeout=600, check=True,
        )  # fmt: skip
        left = [
            path for path in home.rglob("*") if "llmstack" in path.parts and path.is_file() and not path.is_symlink()
        ]
    finally:
        subprocess.run(["./stack", "down"], env=environment, cwd=ROOT, capture_output=True, timeout=120)
    ends = {command: int((home / f"{number}.rc").read_text()) for number, command in enumerate(listed)}
    shown = {command: (home / f"{number}.out").read_text() for number, command in enumerate(listed)}
    errors = {command: (home / f"{number}.err").read_text() for number, command in enumerate(listed)}
    wrong = {command: errors[command][-500:] for command, status in ends.items() if status}
    assert not wrong, wrong
    said = re.search(r"answer +'([^']+)'", README)
    assert said is not None and said[1] in shown["./stack up --demo"]
    assert shown["./stack claude -- -p ping"].strip() in README
    assert shown[PROJECT].strip() in README
    assert not left, shlex.join(map(str, left))
