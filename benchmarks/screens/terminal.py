"""A real terminal (tmux) of a given width."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

WIDTHS = (80, 140)
ROWS = 60


class Terminal:
    """One tmux session of its own server, ended with it."""

    def __init__(self, folder: Path, columns: int, environment: dict[str, str]) -> None:
        self._socket = str(folder / f"tmux-{columns}")
        self._environment = environment
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(ROWS), "env", "PS1=$ ", "sh")

    def screen(self, command: str, *, colours: bool, seconds: float = 180.0) -> str:
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
