"""The whole stack on this machine, by its own commands: `up`, a session of tool calls, a restart, two models in turn,
`tune`, `bench` against itself, `bench --quality`. Each step is one row; a step that needs a stack brings it up.

A stand-in is no device that a stack can use: it then runs on the processor, and the rows say so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.bed import Bed
from benchmarks.gpu.models import Model, chosen, ready
from benchmarks.gpu.results import Cell, Row
from llmstack.errors import NotSo
from support.stack import Stack
from support.talker import Talker
from support.tool_session import SHELL

TURNS = 6
MODEL_NAMES = ("dense-8b", "experts-30b")
SMALL = ("--ctx", "16384")


def cells(bed: Bed) -> Iterator[Cell]:
    models = [model for model in chosen(bed) if model.name in MODEL_NAMES]
    if not models:
        return
    first, *others = models
    slow = 20 if bed.small else 240
    steps: dict[str, Callable[[Bed, Model], Row]] = {
        "up": _up,
        "session": _session,
        "restart": _restart,
        "bench against itself": _bench_twice,
        "tune": _tune,
        "quality": _quality,
    }
    try:
        for name, take in steps.items():
            yield Cell(name, partial(take, bed, first), slow)
        for second in others:
            yield Cell("up A, up B, up A", partial(_in_turn, bed, first, second), 2 * slow)
    finally:  # also where the time is over: nothing goes on holding the card
        stack_of(bed).end()


def stack_of(bed: Bed) -> Stack:
    """Its home and ports stay between the calls, so that a phase that was cut off finds it again."""
    root = bed.out / "stack"
    ports = root / "ports.json"
    if not ports.exists():
        root.mkdir(parents=True, exist_ok=True)
        made = Stack.in_folder(root)
        ports.write_text(json.dumps([made.proxy_port, made.server_port]))
    proxy, server = json.loads(ports.read_text())
    return Stack(root, proxy, server, variables=(("PYTHONPATH", os.pathsep.join(sys.path)),))


class Runner:
    """The stack of this bed, on the bed's engine."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.stack = stack_of(bed)
        self._run("engine", "use", bed.engine.command[0])

    def _run(self, *arguments: str) -> tuple[str, float]:
        """Standard output and s. Raises NotSo."""
        began = time.monotonic()
        try:
            ran = self.stack.run(*arguments, timeout_s=540)
        except subprocess.TimeoutExpired as error:
            raise NotSo(f"{' '.join(arguments)} was not over after nine minutes") from error
        if ran.status != 0:
            raise NotSo(f"{' '.join(arguments)}: status {ran.status}", why=ran.err[-800:])
        return ran.out, time.monotonic() - began

    def up(self, path: str) -> float:
        more = SMALL if self._bed.small else ()
        return self._run(*replace(self.stack, model=Path(path)).up_command(*more))[1]

    def json(self, *arguments: str) -> tuple[Row, float]:
        out, seconds = self._run(*arguments, "--json")
        content: Row = json.loads(out)
        return content, round(seconds, 2)

    def talker(self, session: str) -> Talker:
        """A client with a system text of some 7,600 tokens; of a tenth of them where models are small."""
        lines = 15 if self._bed.small else 150
        return Talker(self.stack.url, self.stack.token, session=session, lines=lines)

    def first_answer_s(self) -> float:
        began = time.monotonic()
        self.talker("first").ask("What grows in May?")
        return round(time.monotonic() - began, 3)


def _up(bed: Bed, model: Model) -> Row:
    with ready(bed, model) as facts:
        runner = Runner(bed)
        seconds = runner.up(facts.path)
        record = runner.stack.record()
        return {"up_s": round(seconds, 2), "health": record["health"], "argv": " ".join(record["server"]["argv"])}


def _session(bed: Bed, model: Model) -> Row:
    """A recorded session of tool calls: what the client sends is the same whatever the model answers. Tokens of each
    turn's prompt, and how many of them were computed."""
    with ready(bed, model) as facts:
        runner = Runner(bed)
        runner.up(facts.path)
        talker = runner.talker("gpu")
        answers = [talker.ask(*_recorded(turn), tools=[SHELL]) for turn in range(TURNS)]
        return {"computed": [answer.computed for answer in answers], "prompt": [answer.total for answer in answers]}


def _recorded(turns: int) -> list[Any]:
    """The messages of a client that has had so many answers, each of them a tool call."""
    said: list[Any] = ["build it"]
    for turn in range(turns):
        call = {"type": "tool_use", "id": f"toolu_{turn:02}", "name": "Bash", "input": {"command": f"make part-{turn}"}}
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": f"part {turn} is built\n" * 8}
        said += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    return said


def _restart(bed: Bed, model: Model) -> Row:
    with ready(bed, model) as facts:
        runner = Runner(bed)
        runner.up(facts.path)
        cold = runner.first_answer_s()
        warm = runner.first_answer_s()
        began = time.monotonic()
        runner.stack.do("restart")
        restart_s = round(time.monotonic() - began, 2)
        return {"cold_s": cold, "warm_s": warm, "restart_s": restart_s, "restarted_s": runner.first_answer_s()}


def _in_turn(bed: Bed, first: Model, second: Model) -> Row:
    with ready(bed, first) as a, ready(bed, second) as b:
        if not (Path(a.path).exists() and Path(b.path).exists()):
            return {"left_out": "the disk does not hold both"}
        runner = Runner(bed)
        times = [("A", runner.up(a.path)), ("A answers", runner.first_answer_s())]
        times += [("B", runner.up(b.path)), ("B answers", runner.first_answer_s())]
        times += [("A again", runner.up(a.path)), ("A answers again", runner.first_answer_s())]
        return {"seconds": {what: round(seconds, 2) for what, seconds in times}}


def _bench_twice(bed: Bed, model: Model) -> Row:
    """The same twice: what `bench` calls slower then is noise."""
    with ready(bed, model) as facts:
        runner = Runner(bed)
        runner.up(facts.path)
        runs = [runner.json("bench", "--quick")[0] for _ in range(2)]
        kept = [{name: metric["median"] for name, metric in run["metrics"].items()} for run in runs]
        return {"first": kept[0], "second": kept[1], "verdict": runs[1]["verdict"]}


def _tune(bed: Bed, model: Model) -> Row:
    with ready(bed, model) as facts:
        runner = Runner(bed)
        runner.up(facts.path)
        found, seconds = runner.json("tune", "--minutes", "1" if bed.small else "6")
        return {"tune_s": seconds, **{key: found.get(key) for key in ("gain", "changed", "complete", "aim")}}


def _quality(bed: Bed, model: Model) -> Row:
    """Made-up weights have no answers to spoil: what is shown is that it runs here, and how long."""
    with ready(bed, model) as facts:
        runner = Runner(bed)
        runner.up(facts.path)
        found, seconds = runner.json("bench", "--quality")
        return {"quality_s": seconds, "kinds": found["kinds"]}
