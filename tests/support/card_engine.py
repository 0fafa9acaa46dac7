"""A stand-in for an engine with a card, and for the driver of that card, on a machine without one.

The engine is a real llama-server for the processor behind a script that lists a CUDA card. A file says what becomes of
the card: `card` (the log says that weights are there, and the driver that the server holds memory), `processor` (it
takes `-dev` and computes on the processor), `gone` (there is no such device), `short` (it holds the model to be trained
on 1024 tokens). The driver is a module called pynvml, found before the installed one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TRAINED = 1024
CARD = "NVIDIA GeForce RTX 4090"

_ENGINE = """#!/bin/bash
if [ "$1" = --list-devices ]; then
  free=23900
  for cmdline in /proc/[0-9]*/cmdline; do
    IFS= read -r -d '' program < "$cmdline" && [ "$program" = "{folder}/server" ] && free=23300
  done 2>/dev/null
  echo "Available devices:"
  echo "  CUDA0: {card} (24564 MiB, $free MiB free)"
  exit 0
fi
mode=$(cat "{folder}/mode")
arguments=()
while [ $# -gt 0 ]; do
  if [ "$1" = -dev ]; then shift 2; else arguments+=("$1"); shift; fi
done
[ "$mode" = gone ] && arguments+=(-dev CUDA0)
[ "$mode" = short ] && arguments+=(--override-kv "qwen3.context_length=int:{trained}")
if [ "$mode" = card ] || [ "$mode" = short ]; then
  exec > >(exec sed -u 's/CPU_Mapped model buffer/     CUDA0 model buffer/') 2>&1
fi
exec -a "{folder}/server" "{real}/llama-server" "${{arguments[@]}}"
"""

_DRIVER = '''"""NVML of a card. What runs as "{folder}/server" holds 600 MiB of it where the file `mode` says `card`."""

from pathlib import Path
from types import SimpleNamespace

FOLDER = Path("{folder}")
MIB = 1 << 20


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLLibraryMismatchError(Exception):
    pass


def nvmlInit():
    pass


def nvmlShutdown():
    pass


def nvmlSystemGetDriverVersion():
    return "580.95.05"


def nvmlDeviceGetCount():
    return 1


def nvmlDeviceGetHandleByIndex(index):
    return index


def nvmlDeviceGetName(card):
    return "{card}"


def nvmlDeviceGetMemoryInfo(card):
    held = sum(process.usedGpuMemory for process in nvmlDeviceGetComputeRunningProcesses(card))
    return SimpleNamespace(total=24564 * MIB, free=23900 * MIB - held, used=664 * MIB + held)


def nvmlDeviceGetMemoryBusWidth(card):
    return 384


def nvmlDeviceGetMaxClockInfo(card, kind):
    return 10501


def nvmlDeviceGetComputeRunningProcesses(card):
    if (FOLDER / "mode").read_text() == "processor":
        return []
    mine = str(FOLDER / "server").encode()
    running = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if _words(path)[:1] == [mine]]
    return [SimpleNamespace(pid=int(pid), usedGpuMemory=600 * MIB) for pid in running]


def nvmlDeviceGetGraphicsRunningProcesses(card):
    return []


def _words(path):
    try:
        return path.read_bytes().split(b"\\0")
    except OSError:
        return []


def __getattr__(name):
    """Every other call is one that this card does not support."""
    if name.startswith("NVML_"):
        return 0
    if not name.startswith("nvml"):
        raise AttributeError(name)

    def refuse(*arguments):
        raise NVMLError("Not Supported")

    return refuse
'''


@dataclass(frozen=True)
class CardEngine:
    folder: Path

    @classmethod
    def made_of(cls, real: Path, folder: Path) -> CardEngine:
        """real: the folder of a llama-server for the processor."""
        driver = folder / "driver"
        driver.mkdir(parents=True)
        words = {"folder": folder, "real": real, "card": CARD, "trained": TRAINED}
        (driver / "pynvml.py").write_text(_DRIVER.format(**words))
        (folder / "libggml-cuda.so").touch()
        binary = folder / "llama-server"
        binary.write_text(_ENGINE.format(**words))
        binary.chmod(0o755)
        engine = cls(folder)
        engine.becomes("card")
        return engine

    @property
    def binary(self) -> str:
        return str(self.folder / "llama-server")

    @property
    def driver(self) -> str:
        """For PYTHONPATH."""
        return str(self.folder / "driver")

    def becomes(self, mode: str) -> None:
        (self.folder / "mode").write_text(mode)
