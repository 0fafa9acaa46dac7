"""One bench run as it is kept: what was measured, on which machine, engine, plan and flags."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from llmstack.bench.metrics import Quantity, quantity_of
from llmstack.commands import command_line
from llmstack.errors import BadInput, NotSo
from llmstack.judge import Metric, RunVerdict
from llmstack.paths import Home

MOST_KEPT = 500
SAME_SIZE = 0.1  # a share: prompts whose tokens differ by more are not compared
FORMAT = 2


class MemoryRow(msgspec.Struct, frozen=True):
    """MiB of one device, or of RAM: planned in parts, and what was in use after the measurement (None: unknown)."""

    name: str
    weights_mib: float
    context_mib: float
    compute_mib: float
    other_mib: float
    budget_mib: float
    measured_mib: float | None = None


class BenchRun(msgspec.Struct, frozen=True):
    """The contract's keys first: tokens/s, s, a share, ms; None where it was not measured.

    metrics, predicted: by name, such as `prefill at 2048`. error: the plan's stated one, as a share. complete:
    False when it was stopped early. at: seconds since the epoch. chunk: tokens of one `prefill at` sample.
    """

    prefill_tps: float | None
    decode_tps: float | None
    ttft_cold_s: float | None
    ttft_warm_s: float | None
    ttft_restart_s: float | None
    cache_hit_ratio: float | None
    proxy_ttft_overhead_ms: float | None
    predicted: dict[str, Any]
    verdict: RunVerdict
    metrics: dict[str, Metric]
    expected: dict[str, float]
    error: float
    memory: tuple[MemoryRow, ...]
    prompt_tokens: int
    model: str
    engine: str
    machine: str
    argv: tuple[str, ...]
    mode: str
    id: str
    at: float
    seconds: float
    complete: bool = True
    chunk: int = 512
    format: int = FORMAT


def new_id(taken: Iterable[str], now: float) -> str:
    """Sortable and short enough to type: 1120-180142, with a letter when that second has one already."""
    base = time.strftime("%m%d-%H%M%S", time.localtime(now))
    used = set(taken)
    return next(name for name in (base, *(f"{base}{letter}" for letter in "bcdefghijk")) if name not in used)


def history(home: Home) -> tuple[BenchRun, ...]:
    """The oldest first. Lines of another format, or cut off by a crash, are passed over."""
    try:
        lines = home.bench_history.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    decoder = msgspec.json.Decoder(BenchRun)
    runs = []
    for line in lines:
        try:
            runs.append(decoder.decode(line))
        except msgspec.DecodeError:
            continue
    return tuple(run for run in runs if run.format == FORMAT)[-MOST_KEPT:]


def remember(home: Home, run: BenchRun) -> None:
    home.bench_history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with home.bench_history.open("a+b") as stream:
        if stream.seek(0, os.SEEK_END):  # a line that was torn at the end must not take this one with it
            stream.seek(-1, os.SEEK_END)
            torn = stream.read(1) != b"\n"
        else:
            torn = False
        stream.write((b"\n" if torn else b"") + msgspec.json.encode(run) + b"\n")


def like(runs: Iterable[BenchRun], run: BenchRun) -> tuple[BenchRun, ...]:
    """Earlier runs of the same model on the same machine: what a new run is compared with."""
    return tuple(r for r in runs if (r.model, r.machine) == (run.model, run.machine) and r.id != run.id)


def comparable(run: BenchRun, chunk: int, prompt_tokens: int) -> dict[str, Metric]:
    """A run's metrics, without those that are of another size than a run with these sizes has."""
    same_chunk = run.chunk == chunk
    same_prompt = prompt_tokens and abs(run.prompt_tokens / prompt_tokens - 1) < SAME_SIZE

    def is_alike(name: str) -> bool:
        quantity = quantity_of(name)
        if quantity is None:
            return True
        return (same_chunk or quantity is not Quantity.PREFILL) and (same_prompt or not quantity.is_first_token)

    return {name: metric for name, metric in run.metrics.items() if is_alike(name)}


def named(runs: tuple[BenchRun, ...], name: str) -> BenchRun:
    """A run by its id or the start of it, `last`, or `last~1` for the one before it. Raises BadInput, NotSo."""
    if not runs:
        raise NotSo("nothing has been measured yet", next=command_line("bench"))
    word, _, back = name.partition("~")
    if word == "last" and (back or "0").isdigit():
        if int(back or 0) >= len(runs):
            raise BadInput(f"there are only {len(runs)} runs", next=f"{command_line('bench', 'history')}   lists them")
        return runs[-1 - int(back or 0)]
    matches = [run for run in runs if run.id == name] or [run for run in runs if run.id.startswith(name)]
    if len(matches) != 1:
        problem = "no run is called" if not matches else "several runs start with"
        raise BadInput(f"{problem} {name}", next=f"{command_line('bench', 'history')}   lists them")
    return matches[0]


def changed_flags(before: BenchRun, after: BenchRun) -> tuple[str, ...]:
    """What differs between two runs besides their figures, such as `-t 2 → 1`."""
    changes = [] if before.engine == after.engine else [f"engine {before.engine} → {after.engine}"]
    old, new = _flags(before.argv), _flags(after.argv)
    for flag in dict.fromkeys((*old, *new)):
        if old.get(flag) != new.get(flag):
            changes.append(f"{flag} {old.get(flag, '(absent)')} → {new.get(flag, '(absent)')}")
    return tuple(changes)


def _flags(argv: tuple[str, ...]) -> dict[str, str]:
    flags: dict[str, str] = {}
    name = ""
    for word in argv:
        if word.startswith("-") and not word.lstrip("-").replace(".", "").isdigit():
            name = word
            flags[name] = ""
        elif name:
            flags[name] = f"{flags[name]} {word}".strip()
    return flags
