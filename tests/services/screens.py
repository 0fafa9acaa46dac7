"""Takes the screens of docs/services.md in a real terminal (tmux), at 80 and 140 columns, plain and with colours.

    python tests/services/screens.py FOLDER

Runs a demo stack under a real user manager of its own and removes it again. FOLDER/NAME-COLUMNS.txt is plain text
(NO_COLOR=1), NAME-COLUMNS.ansi has the escape codes of the coloured screen.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from services import user_manager

WIDTHS = (80, 140)
ROWS = 45


class Terminal:
    """One tmux session of its own server, ended with it."""

    def __init__(self, folder: Path, columns: int, environment: dict[str, str]) -> None:
        self._socket = str(folder / f"tmux-{columns}")
        self._environment = environment
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(ROWS), "env", "PS1=$ ", "sh")

    def screen(self, command: str, *, colours: bool, seconds: float = 90.0) -> str:
        """What is on the screen once the command has ended, the command's own line first."""
        self._tmux("send-keys", f"clear; {'' if colours else 'NO_COLOR=1 '}{command}; tmux wait-for -S done", "Enter")
        self._tmux("wait-for", "done", timeout=seconds)
        time.sleep(0.2)
        return self._captured(colours)

    def running(self, command: str, *, colours: bool, seconds: float) -> str:
        """What is on the screen some seconds into a command, which is then stopped."""
        self._tmux("send-keys", f"clear; {'' if colours else 'NO_COLOR=1 '}{command}", "Enter")
        time.sleep(seconds)
        shot = self._captured(colours)
        self._tmux("send-keys", "C-c")
        time.sleep(2.0)
        return shot

    def _captured(self, colours: bool) -> str:
        lines = self._tmux("capture-pane", "-p", *(("-e",) if colours else ())).rstrip().split("\n")
        return "\n".join(line.rstrip() for line in lines if not line.startswith("$")).rstrip() + "\n"

    def close(self) -> None:
        self._tmux("kill-server")

    def _tmux(self, *arguments: str, timeout: float = 20.0) -> str:
        command = ["tmux", "-S", self._socket, *arguments]
        environment = {**self._environment, "TERM": "xterm-256color"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=True)
        return done.stdout


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    user_manager.install()
    work = Path(tempfile.mkdtemp(prefix="scr-", dir="/tmp"))
    bin_folder = work / "bin"
    bin_folder.mkdir()
    program = bin_folder / "llmstack"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m llmstack "$@"\n')
    program.chmod(0o755)
    with user_manager.journald():
        manager = user_manager.UserManager()
        try:
            manager.start()
            environment = {
                **manager.environment(),
                "LLMSTACK_HOME": str(work / "stack"),
                "PATH": f"{bin_folder}:{os.environ['PATH']}",
            }
            subprocess.run([program, "up", "--demo"], env=environment, check=True, capture_output=True)
            for columns in WIDTHS:
                terminal = Terminal(work, columns, environment)
                try:
                    take(terminal, columns, folder)
                finally:
                    terminal.close()
            subprocess.run([program, "uninstall", "--yes"], env=environment, check=True, capture_output=True)
        finally:
            manager.close()


def take(terminal: Terminal, columns: int, folder: Path) -> None:
    commands = {
        "up": "llmstack up --demo --ctx 32768; llmstack up --demo --ctx 65536",
        "status": "llmstack status",
        "doctor": "llmstack doctor --all",
        "logs": "llmstack logs -n 60",
        "failed": "truncate -s 3000 $LLMSTACK_HOME/broken.gguf; llmstack up $LLMSTACK_HOME/broken.gguf",
    }
    for name, command in commands.items():
        (folder / f"{name}-{columns}.txt").write_text(terminal.screen(command, colours=False))
        (folder / f"{name}-{columns}.ansi").write_text(terminal.screen(command, colours=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
