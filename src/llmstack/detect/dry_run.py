"""Asks the user's own llama-server what an argument list would take, without loading the model.

With `--log-jsonl -lv 4 --fit on` it prints a `fit_memory_breakdown` before it loads anything
(common/fit.cpp, common_memory_breakdown_print); it is stopped there.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Timer

from llmstack.commands import command_line
from llmstack.errors import MissingPart, NotSo

DEADLINE_S = 120.0
_NOT_MEASURED = "failed to measure the memory of the extra model"  # common/fit.cpp


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """MiB, rounded down by llama-server."""

    name: str
    model: int
    context: int
    compute: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """host sums every buffer in RAM (plain, pinned and repacked). whole: False where a second model is not counted."""

    devices: tuple[MemoryPart, ...]
    host: MemoryPart
    whole: bool = True


def dry_run(binary: Path, argv: Sequence[str]) -> Breakdown:
    """Raises MissingPart when the binary cannot run, NotSo when it ends without a breakdown."""
    command = [str(binary), *argv, "--fit", "on", "-lv", "4", "--log-jsonl", "--no-warmup"]
    command += ["--host", "127.0.0.1", "--port", "0"]
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )
    except OSError as error:
        raise MissingPart(f"{binary} does not run: {error}", next=command_line("engine", "list")) from None
    deadline = Timer(DEADLINE_S, process.kill)  # one that says nothing of its memory loads the model, and serves
    deadline.start()
    with process:
        try:
            return _read(process, argv)
        finally:
            deadline.cancel()
            with suppress(ProcessLookupError):
                process.kill()


def fit_params(binary: Path, argv: Sequence[str]) -> tuple[str, ...]:
    """The flags that llama-fit-params chooses. Raises MissingPart or NotSo as `dry_run` does."""
    try:
        done = subprocess.run(
            [str(binary), *argv],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPart(f"{binary} does not run: {error}", next=command_line("engine", "list")) from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("-")]
    if done.returncode or not lines:
        raise NotSo("llama-fit-params chose nothing", why=(done.stdout + done.stderr).strip()[-1500:])
    return tuple(lines[-1].split())


def _read(process: subprocess.Popen[str], argv: Sequence[str]) -> Breakdown:
    """Guessing ahead takes a second context, whose breakdown follows: on the same weights (MTP) or on its own.

    A second model that cannot be without the first one's context (llama_context's ctx_other) is not measured.
    """
    assert process.stdout is not None
    second_model = "-md" in argv
    contexts = 2 if second_model or "draft-mtp" in argv else 1
    tail: list[str] = []
    breakdowns: list[Breakdown] = []
    for line in process.stdout:
        if not line.startswith('{"type":"fit_memory_breakdown"'):
            tail = [*tail[-5:], line]
            if breakdowns and _NOT_MEASURED in line:
                return replace(breakdowns[0], whole=False)
            continue
        rows = json.loads(line)["data"]["rows"]
        devices = tuple(_part(row["name"], [row]) for row in rows if row["kind"] == "device")
        breakdowns.append(Breakdown(devices, _part("RAM", [row for row in rows if row["kind"] != "device"])))
        if len(breakdowns) == contexts:
            return _together(breakdowns, weights=second_model)
    raise NotSo("llama-server ended before it said what it needs", why="".join(tail).strip()[-1500:])


def _together(breakdowns: list[Breakdown], *, weights: bool) -> Breakdown:
    """The caches and buffers of every context; the weights of all, or once where they are shared."""
    first = breakdowns[0]
    devices = tuple(
        _sum([each.devices[number] for each in breakdowns], weights) for number in range(len(first.devices))
    )
    return Breakdown(devices, _sum([each.host for each in breakdowns], weights))


def _sum(parts: list[MemoryPart], weights: bool) -> MemoryPart:
    model = sum(p.model for p in parts) if weights else parts[0].model
    return MemoryPart(parts[0].name, model, sum(p.context for p in parts), sum(p.compute for p in parts))


def _part(name: str, rows: list[dict[str, int]]) -> MemoryPart:
    return MemoryPart(name, *(sum(row[key] for row in rows) for key in ("model", "context", "compute")))
