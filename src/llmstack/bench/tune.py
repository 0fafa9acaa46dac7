"""Searches the flags that a plan can only estimate, by measuring: one at a time, under the plan's memory budgets.

A coordinate search: each flag in turn is moved to its neighbouring values while that brings something; what was
measured once is not measured again. At the end start and best are measured again in turns, because a busy minute
must not choose a flag.
"""

from __future__ import annotations

import enum
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmstack import stackfile
from llmstack.bench.depths import Effort, measure
from llmstack.bench.sample import Sampler
from llmstack.bench.scratch import room_on_the_card, scratch
from llmstack.commands import command_line
from llmstack.deploy import tuned
from llmstack.deploy.expected_speed import ExpectedSpeed, expected_speed
from llmstack.detect.model_file import open_model
from llmstack.engine.find import YOUNGER_FLAG, Engine, find
from llmstack.errors import NotSo
from llmstack.hardware import Hardware
from llmstack.llama_server.flags import TUNABLE, flag_of
from llmstack.paths import Home
from llmstack.plan import Goal, ModelFacts, Workload
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment
from llmstack.plan.search import Search
from llmstack.stackfile import StackRecord

DEPTH = 1024  # tokens in the cache of each trial
CHUNK_S = 3.0  # what reading one prompt of a trial may take
MIN_GAIN = 0.03  # a flag is moved for no less
UBATCHES = (128, 256, 512, 1024, 2048, 4096)
KV_TYPES = ("q4_0", "q8_0", "f16")  # from coarse to fine: never coarser than the plan's own choice
DRAFTS = (0, 1, 2, 3, 4)
LOAD_MODES = ("mmap", "none")
NGRAMS = (0, 64)
EXPERT_CACHES = (0, 1024, 2048, 4096, 8192)  # MiB on the card for experts in RAM


class Aim(enum.StrEnum):
    """What is made short: a whole session of a coding agent, its prompts, or its answers."""

    SESSION = "session"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Trial:
    """tokens/s at `depth`; seconds: what the aim's work takes at these speeds."""

    assignment: Assignment
    prefill_tps: float
    decode_tps: float
    seconds: float


@dataclass(slots=True)
class Result:
    """gain: the share of the start's time that the best saves, confirmed by measuring both again in turns."""

    start: Trial
    best: Trial
    trials: list[Trial]
    changed: dict[str, str]
    gain: float
    aim: Aim
    seconds: float
    complete: bool = True
    skipped: list[str] = field(default_factory=list)


OnProgress = Callable[[str], None]
Measure = Callable[[Assignment], Trial]


def seconds_of(aim: Aim, prefill_tps: float, decode_tps: float, work: Workload) -> float:
    """s: the prompts and answers of one session (plan.goal.Workload) at these speeds."""
    prompts = (work.cold_tokens + work.turns * work.turn_tokens) / max(prefill_tps, 1e-9)
    answers = work.turns * work.output_tokens / max(decode_tps, 1e-9)
    return {Aim.SESSION: prompts + answers, Aim.PREFILL: prompts, Aim.DECODE: answers}[aim]


def axes(
    start: Assignment,
    facts: ModelFacts,
    hardware: Hardware,
    pinned: Sequence[str] = (),
    *,
    has_expert_cache: bool = False,
) -> dict[str, tuple[Any, ...]]:
    """The values worth trying of each field, in order; those of pinned fields are left alone.

    has_expert_cache: the engine knows --moe-cache-mib. Whether that gains anything only a measurement says: published
    cases lie between twice as fast and a fifth.
    """
    cores, logical = hardware.cpu.physical_cores, hardware.cpu.logical_cores
    choices: dict[str, tuple[Any, ...]] = {
        "ubatch": tuple(u for u in UBATCHES if u <= start.ctx),
        "threads": tuple(sorted({t for t in (cores // 2, cores - 1, cores, logical, start.threads) if t > 0})),
        "type_k": KV_TYPES[KV_TYPES.index(start.type_k) :] if start.type_k in KV_TYPES else (start.type_k,),
        "load_mode": LOAD_MODES if start.load_mode in LOAD_MODES else (start.load_mode,),
    }
    if facts.n_draft:
        choices["draft_max"] = DRAFTS
    if not (facts.recurrent or facts.has_window or facts.moe):
        choices["ngram_max"] = NGRAMS
    if hardware.devices and facts.moe and start.ngl:
        choices["ncmoe"] = tuple(range(max(start.ncmoe - 4, 0), min(start.ncmoe + 3, facts.n_layer_all) + 1))
        if has_expert_cache and start.ncmoe:
            choices["moe_cache_mib"] = tuple(sorted({*EXPERT_CACHES, start.moe_cache_mib}))
    return {name: values for name, values in choices.items() if len(values) > 1 and flag_of(name).name not in pinned}


def moved(a: Assignment, name: str, value: Any) -> Assignment:
    """The assignment with one field changed, and what goes with it."""
    if name == "type_k":
        return replace(a, type_k=value, type_v=value)
    if name == "ubatch":
        return replace(a, ubatch=value, batch=max(2048, value))
    return replace(a, **{name: value})


def search(
    start: Assignment, axes: dict[str, tuple[Any, ...]], fits: Callable[[Assignment], bool], try_it: Measure
) -> tuple[Trial, list[Trial]]:
    """Coordinate search: each axis is walked up and down from where it stands, as long as it gets better.

    Ends after a round over all axes that changed nothing. Pure but for try_it.
    """
    trials: dict[Assignment, Trial] = {}

    def trial(a: Assignment) -> Trial | None:
        if a not in trials:
            if not fits(a):
                return None
            trials[a] = try_it(a)
        return trials[a]

    best = trial(start)
    if best is None:
        raise NotSo("the plan that is deployed no longer fits this machine", next=command_line("up"))
    improved = True
    while improved:
        improved = False
        for name, values in axes.items():
            for direction in (1, -1):
                while True:
                    here = values.index(getattr(best.assignment, name))
                    if not 0 <= here + direction < len(values):
                        break
                    other = trial(moved(best.assignment, name, values[here + direction]))
                    if other is None or other.seconds > best.seconds * (1 - MIN_GAIN):
                        break
                    best, improved = other, True
    return best, list(trials.values())


def tune(
    home: Home, on_progress: OnProgress, *, aim: Aim = Aim.SESSION, minutes: float = 30.0, pinned: Sequence[str] = ()
) -> Result:
    """Measures on the deployed model; changes nothing that is deployed. Ctrl-C ends it with the best so far.

    On a GPU the deployed stack makes room meanwhile and comes back at the end. Raises NotSo.
    """
    stack = stackfile.read(home)
    plan = expected_speed(stack) if stack is not None else None
    if stack is None or plan is None:
        raise NotSo("there is no deployed plan to tune", next=command_line("up", "MODEL"))
    engine = find(home)
    pinned = (*pinned, *stack.pins)
    limits = Search(plan.facts, plan.hardware, Goal(draft=plan.drafter), {})
    began = time.monotonic()
    tried: list[Trial] = []

    chunk: int | None = None

    def take(a: Assignment) -> Trial:
        return _measure(home, engine, stack, plan, a, aim, chunk)[0]

    def try_it(a: Assignment) -> Trial:
        if tried and a == tried[0].assignment:
            return tried[0]
        if tried and time.monotonic() - began > minutes * 60:
            raise _TimeUp
        trial = take(a)
        tried.append(trial)
        first = tried[0]
        on_progress(
            f"{len(tried)} tried; {_words(first.assignment, a) or 'as deployed'}: prefill {trial.prefill_tps:,.0f}, "
            f"decode {trial.decode_tps:,.1f} tokens/s ({first.seconds / trial.seconds - 1:+.0%})"
        )
        return trial

    complete, gain = True, 0.0
    with room_on_the_card(home, plan.hardware, on_progress):
        try:
            first, taken = _measure(home, engine, stack, plan, plan.assignment, aim, None)
            chunk = _chunk(plan.assignment, first, taken)
            if chunk == taken:
                tried.append(first)
            caches = YOUNGER_FLAG in (engine.flags or ())
            choices = axes(plan.assignment, plan.facts, plan.hardware, pinned, has_expert_cache=caches)
            if "ubatch" in choices:  # a larger one than the prompts that are timed would never show what it does
                most = max(chunk, plan.assignment.ubatch)
                choices["ubatch"] = tuple(u for u in choices["ubatch"] if u <= most)
            try:
                best, _ = search(plan.assignment, choices, limits.fits, try_it)
            except _TimeUp:
                best = min(tried, key=lambda trial: trial.seconds)
            gain = 1 - best.seconds / tried[0].seconds
            if best is not tried[0]:
                on_progress("measuring start and best again, in turns")
                gain = _confirm(take, plan.assignment, best)
        except KeyboardInterrupt:
            if not tried:
                raise NotSo("stopped before anything was measured") from None
            complete = False
            best = min(tried, key=lambda trial: trial.seconds)
            gain = gain or 1 - best.seconds / tried[0].seconds
    if gain < MIN_GAIN:
        best, gain = tried[0], 0.0
    return Result(
        start=tried[0],
        best=best,
        trials=tried,
        changed=_changed(plan.assignment, best.assignment),
        gain=gain,
        aim=aim,
        seconds=time.monotonic() - began,
        complete=complete,
    )


def keep(home: Home, result: Result) -> None:
    """Remembers what was found, so that every later plan of this model takes it up. Raises NotSo."""
    stack = stackfile.read(home)
    plan = expected_speed(stack) if stack is not None else None
    if stack is None or plan is None:
        raise NotSo("the stack changed meanwhile", next=command_line("tune"))
    tuned.remember(
        home,
        tuned.make(
            open_model(stack.model.path).identity,
            stack.server.engine,
            plan.hardware,
            result.changed,
            gain=round(result.gain, 4),
            goal=result.aim.value,
            trials=len(result.trials),
            at=time.time(),
        ),
    )


class _TimeUp(Exception):
    """The minutes that the user gave are over."""


def _measure(
    home: Home, engine: Engine, stack: StackRecord, plan: ExpectedSpeed, a: Assignment, aim: Aim, chunk: int | None
) -> tuple[Trial, int]:
    """A trial, and the tokens of its prefill samples: chunk, or what the time of a trial allows."""
    facts = plan.facts
    argv = flags(facts, replace(a, cache_ram_mib=0), Goal(reasoning="auto", draft=plan.drafter))
    with scratch(home, engine, argv, model_bytes=facts.size_bytes) as (client, pid):
        depth = _depth(a)
        effort = Effort(4, 32, 12.0)
        speeds = measure(client, Sampler([pid], patience_s=6.0), (depth,), effort, lambda _: None, chunk=chunk)
    prefill, decode = speeds.prefill[depth].median, speeds.decode[depth].median
    return Trial(a, prefill, decode, seconds_of(aim, prefill, decode, Workload())), speeds.chunk


def _depth(a: Assignment) -> int:
    return min(DEPTH, max(a.ctx // a.parallel - 2048, 0))


def _chunk(a: Assignment, first: Trial, taken: int) -> int:
    """Tokens of every trial's prefill samples: as many as the widest -ub that are read in CHUNK_S, and fit."""
    room = a.ctx // a.parallel - _depth(a) - 128
    return max([taken, *(u for u in UBATCHES if u <= min(first.prefill_tps * CHUNK_S, room))])


def _confirm(try_it: Measure, start: Assignment, best: Trial) -> float:
    """The median gain over three pairs measured in turns."""
    gains = []
    for _ in range(3):
        before = try_it(start).seconds
        gains.append(1 - try_it(best.assignment).seconds / before)
    return statistics.median(gains)


def _changed(start: Assignment, best: Assignment) -> dict[str, str]:
    changes = {}
    for flag in TUNABLE:
        if getattr(start, flag.field) != getattr(best, flag.field):
            changes[flag.name] = str(getattr(best, flag.field))
    if "-ctk" in changes:
        changes["-ctv"] = best.type_v
    return changes


def _words(start: Assignment, a: Assignment) -> str:
    return " ".join(f"{flag} {value}" for flag, value in _changed(start, a).items())
