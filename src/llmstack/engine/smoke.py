"""What a fresh build must show before it gets its name: it starts, it is what was asked for, and it computes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from llmstack.commands import command_line
from llmstack.engine.find import BuildRecord, of_binary, usable
from llmstack.engine.probe import backends_beside, list_devices, probe
from llmstack.errors import MissingPart
from llmstack.paths import Home

COMPUTE_SECONDS = 180.0  # a CUDA build may compile kernels for a card at its first use


def _next() -> str:
    return f"{command_line('engine', 'list')}   shows what else is here; the engine in use stays as it is"


def smoke_test(folder: Path, record: BuildRecord, home: Home, work: Path, cards: int = 0) -> None:
    """Raises MissingPart that says what the build in `folder` fails at.

    cards: NVIDIA cards that a CUDA build must see. With none it computes on the processor: its library is there, it
    starts and lists no device, which is all that can be shown, and `record.untried` says so.
    """
    binary = folder / "llama-server"
    if not binary.is_file():
        raise MissingPart("the build made no llama-server", next=_next())
    usable(of_binary(binary, home, record.origin, record))
    answers, libraries = probe(binary, home.cache), backends_beside(binary)
    if answers.build is not None and answers.build != record.build:
        raise MissingPart(f"the build calls itself {answers.build}, and {record.build} was asked for", next=_next())
    missing = [name for name in record.backends if name not in libraries]
    if missing:
        raise MissingPart(
            f"the build has no {', '.join(missing)} backend", why=f"it has {', '.join(libraries)}", next=_next()
        )
    if cards:
        _sees_a_card(binary)
    _compute(folder / "llama-bench", work)


def _sees_a_card(binary: Path) -> None:
    """llama.cpp falls back to the processor without a word when its CUDA backend does not start."""
    listed = list_devices([str(binary)])
    if not any(device.id.startswith("CUDA") for device in listed.devices):
        raise MissingPart(
            "the build sees no NVIDIA card",
            why=listed.problem or "--list-devices lists none, and nvidia-smi does: the driver is too old for this CUDA",
            next=f"update the driver, or: {command_line('engine', 'install', '--vulkan')}",
        )


def _compute(bench: Path, work: Path) -> None:
    """Runs a few tokens of a real transformer through the build, on whatever devices it sees."""
    from llmstack.demo import build_model

    if not bench.is_file():
        raise MissingPart("the build made no llama-bench", next=_next())
    model = work / "smoke.gguf"
    with model.open("wb") as stream:
        for piece in build_model("the quick brown fox jumps over the lazy dog\n" * 40):
            stream.write(piece)
    argv = [str(bench), "-m", str(model), "-p", "32", "-n", "4", "-r", "1", "-o", "json"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=COMPUTE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPart("the build starts but does not compute", why=str(error), next=_next()) from None
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise MissingPart(
            "the build starts but does not compute",
            why=lines[-1][:300] if lines else f"llama-bench ended with status {done.returncode}",
            next=_next(),
        )
