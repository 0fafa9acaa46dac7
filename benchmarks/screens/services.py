"""Takes the screens of docs/services.md in a real terminal (tmux), at 80 and 140 columns, plain and with colours.

    python -m benchmarks.screens.services FOLDER

Runs a demo stack under a real user manager of its own and removes it again. FOLDER/NAME-COLUMNS.txt is plain text
(NO_COLOR=1), NAME-COLUMNS.ansi has the escape codes of the coloured screen.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.screens.terminal import WIDTHS, Terminal
from support import user_manager


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
