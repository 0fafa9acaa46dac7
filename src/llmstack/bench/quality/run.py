"""Measures what cache types, or a file beside another one, cost the answers of the deployed model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from llmstack import stackfile
from llmstack.bench.depths import Prompts
from llmstack.bench.quality.distributions import Distribution, apart, read
from llmstack.bench.quality.intervals import of_mean, of_share
from llmstack.bench.quality.record import KindQuality, QualityRun
from llmstack.bench.quality.tasks import Task, all_tasks
from llmstack.bench.scratch import room_on_the_card, scratch
from llmstack.commands import command_line
from llmstack.deploy import kv_measured
from llmstack.deploy.machine import this_machine
from llmstack.detect.model_file import open_model
from llmstack.engine.control import EngineClient
from llmstack.engine.find import Engine, find
from llmstack.errors import NotSo
from llmstack.paths import Home, write_private
from llmstack.plan import Goal, ModelFacts, Plan, make_plan, read_facts
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment

REFERENCE = "f16"
KINDS = ("q8_0", "q4_0")
DEPTHS = (1024, 8192, 30_000)
ON_THREADS = (1024, 4096)  # without a card a quantised cache is read row by row: a deep prompt takes minutes
PLACES = 160  # next tokens at each depth
TASKS = 5  # of each kind
ROOM = 1024  # tokens behind the deepest place, for a task's question and answer
ANSWER = 96
_FILE = "quality.jsonl"

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one engine said: distributions by depth, and each task's outcome."""

    places: dict[int, list[Distribution]]
    outcomes: list[tuple[str, bool]]
    seconds: float


@dataclass(slots=True)
class _Meter:
    """Asks one engine after the other the same. tokens: the text, made by the first that is asked."""

    home: Home
    engine: Engine
    depths: tuple[int, ...]
    places: int
    step: Step
    tokens: list[int] = field(default_factory=list)

    def read(self, name: str, plan: Plan, a: Assignment) -> _Reading:
        """Raises NotSo when the engine fails."""

        def step(what: str) -> None:
            self.step(f"{name}: {what}")

        began = time.monotonic()
        alone = replace(a, cache_ram_mib=0, draft_max=0, drafter=False)
        step("loading")
        argv = (*flags(plan.facts, alone, plan.goal), "--jinja")
        with scratch(self.home, self.engine, argv, model_bytes=plan.facts.size_bytes) as (client, _):
            if not self.tokens:
                self.tokens += Prompts(client, seed=1).tokens(self.depths[-1] + self.places)
            seen = read(client, self.tokens, self.depths, self.places, step)
            step("tool calls")
            tasks = all_tasks(self.depths, TASKS, Prompts(client, seed=2).characters_per_token)
            outcomes = [(task.kind, _outcome(client, task)) for task in tasks]
        return _Reading(seen, outcomes, time.monotonic() - began)


def measure_quality(
    home: Home, step: Step, *, kinds: Sequence[str] = KINDS, against: Path | None = None, places: int = PLACES
) -> QualityRun:
    """Each cache type against f16; or, with `against`, the deployed file against that one, both with an f16 cache.

    The placement is that of f16, for all: another one would change more than the cache. On a card the deployed stack
    makes room meanwhile. What was found of cache types is kept for the plans to come. Raises NotSo, Infeasible.
    """
    stack = stackfile.read(home)
    if stack is None:
        raise NotSo("there is no deployed model to measure", next=command_line("up", "MODEL"))
    began, hardware = time.monotonic(), this_machine(home).hardware
    facts = _facts(home, stack.model.path)
    depths = _depths(facts, DEPTHS if hardware.devices else ON_THREADS)
    meter = _Meter(home, find(home), depths, places, step)
    plan = _plan(facts, hardware, depths)
    with room_on_the_card(home, hardware, step):
        if against is not None:
            other = _plan(_facts(home, str(against)), hardware, depths)
            names = (against.stem, Path(stack.model.path).stem)
            readings = {names[0]: meter.read(names[0], other, other.assignment)}
            readings[names[1]] = meter.read(names[1], plan, plan.assignment)
        else:
            readings = {
                kind: meter.read(kind, plan, replace(plan.assignment, type_k=kind, type_v=kind))
                for kind in (REFERENCE, *kinds)
            }
    reference = next(iter(readings.values()))
    rows = tuple(_quality(name, reference, reading, depths) for name, reading in readings.items())
    if against is None:
        harm = {row.kind: (row.kl.low, row.kl.high, row.same.value) for row in rows[1:]}
        kv_measured.remember(home, stack.model.path, harm)
    run = QualityRun(stack.model.name, stack.model.path, meter.engine.name, rows[0].kind, depths, places, rows,
                     time.time(), round(time.monotonic() - began, 1))  # fmt: skip
    write_private(home.state / _FILE, b"".join(msgspec.json.encode(one) + b"\n" for one in (*history(home), run)))
    return run


def history(home: Home) -> list[QualityRun]:
    """All kept runs, the oldest first."""
    try:
        lines = (home.state / _FILE).read_bytes().splitlines()
        return [msgspec.json.decode(line, type=QualityRun) for line in lines]
    except (OSError, msgspec.DecodeError):
        return []


def _facts(home: Home, path: str) -> ModelFacts:
    return read_facts(open_model(path, cache=home.cache).header, path=path)


def _depths(facts: ModelFacts, wish: tuple[int, ...]) -> tuple[int, ...]:
    """Those that the model's training allows; where the deepest is too deep for it, as deep as it allows."""
    most = facts.n_ctx_train - PLACES - ROOM if facts.n_ctx_train else wish[-1]
    depths = tuple(depth for depth in wish if depth <= most)
    return depths if depths == wish else (*depths, max(most // 256 * 256, 256))


def _plan(facts: ModelFacts, hardware: Any, depths: Sequence[int]) -> Plan:
    ctx = depths[-1] + PLACES + ROOM
    return make_plan(facts, hardware, Goal(ctx=-(-ctx // 256) * 256, kv_type=REFERENCE, parallel=1, reasoning="auto"))


def _outcome(client: EngineClient, task: Task) -> bool:
    return task.run(lambda messages, tool: client.call(messages, tool, max_tokens=ANSWER))


def _quality(kind: str, reference: _Reading, mine: _Reading, depths: Sequence[int]) -> KindQuality:
    pairs = {
        depth: [apart(a, b) for a, b in zip(reference.places[depth], mine.places[depth], strict=True) if a and b]
        for depth in depths
    }
    every = [one for at in pairs.values() for one in at]
    names = list(dict.fromkeys(name for name, _ in mine.outcomes))
    return KindQuality(
        kind,
        of_mean([one.kl for one in every]),
        of_share(sum(one.same for one in every), len(every)),
        {depth: of_mean([one.kl for one in at]) for depth, at in pairs.items()},
        {depth: of_share(sum(one.same for one in at), len(at)) for depth, at in pairs.items()},
        {name: _share(mine.outcomes, name) for name in names} | {"all": _share(mine.outcomes, None)},
        round(mine.seconds, 1),
    )


def _share(outcomes: Sequence[tuple[str, bool]], name: str | None) -> Any:
    results = [good for kind, good in outcomes if name in (None, kind)]
    return of_share(sum(results), len(results))
