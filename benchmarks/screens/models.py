"""Takes the screens of docs/models.md and docs/engines.md in a real terminal (tmux), at 80 and 140 columns.

    python -m benchmarks.screens.models FOLDER

`models list` for an RTX 3060, a pull from a hub on loopback while it runs, `engine list` with the built engine and the
embedded one. FOLDER/NAME-COLUMNS.txt is plain text (NO_COLOR=1), NAME-COLUMNS.ansi has the coloured screen.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.screens.terminal import WIDTHS, Terminal
from llmstack.engine.install import BuildSpec
from llmstack.hardware import Cpu, Device, Hardware, Ram
from llmstack.plan.cards import listed
from support.built_engine import build_home
from support.hub import hub_server
from support.model_bytes import model_bytes

CARD = Hardware(
    Ram(32768, 28672, None, 40.0),
    Cpu(8, 16, ("avx2", "f16c", "fma")),
    (listed(Device("NVIDIA GeForce RTX 3060", "CUDA", 12288, 11776)),),
)
FILE = "Qwen3-1.7B-Q8_0.gguf"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="scr-", dir="/tmp"))
    program = work / "bin" / "llmstack"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m llmstack "$@"\n')
    program.chmod(0o755)
    (work / "card.json").write_text(json.dumps(CARD.to_json()))
    engines = work / "stack" / "data" / "engines"
    engines.parent.mkdir(parents=True)
    engines.symlink_to(build_home(BuildSpec("cpu", rpc=True)).data / "engines")
    with hub_server({FILE: model_bytes(120 << 20, 1)}) as hub:
        hub.faults.pace = 12 << 20
        environment = {
            **os.environ,
            "LLMSTACK_HOME": str(work / "stack"),
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(work / "hf"),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "W": str(work),
        }
        try:
            for columns in WIDTHS:
                terminal = Terminal(work, columns, environment)
                try:
                    take(terminal, columns, folder)
                finally:
                    terminal.close()
        finally:
            shutil.rmtree(work, ignore_errors=True)


def take(terminal: Terminal, columns: int, folder: Path) -> None:
    for colours, suffix in ((False, "txt"), (True, "ansi")):
        for name, command in (
            ("models-list", "llmstack models list --hardware $W/card.json"),
            ("engine-list", "llmstack engine list"),
        ):
            (folder / f"{name}-{columns}.{suffix}").write_text(terminal.screen(command, colours=colours))
        pull = f"llmstack models pull hf:Qwen/Qwen3-1.7B-GGUF/{FILE}"
        terminal.screen("rm -rf $LLMSTACK_HOME/data/models", colours=colours)
        running = terminal.running(pull, colours=colours, seconds=6.0)
        (folder / f"pull-{columns}.{suffix}").write_text(running)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
