"""The matrix of the memory oracle: shape, cache type, context, slots, ubatch and placement."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from llmstack.detect import hardware as detect
from llmstack.hardware import Device
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment
from llmstack.plan.compare import Checked, check
from llmstack.plan.facts import ModelFacts, read_facts
from llmstack.plan.goal import Goal
from llmstack.plan.memory import Estimator
from support.planner.oracle import Oracle
from support.planner.shapes import shape_of

KV = ("f16", "q8_0", "q4_0")
CONTEXTS = (8192, 65536, 131072)
SLOTS = (1, 2)
UBATCHES = (512, 2048)
PLACEMENTS = ("gpu", "partial", "experts", "nkvo", "cpu")
COMBINED = ("partial-nkvo", "experts-nkvo", "partial-experts")  # beside the matrix


@dataclass(frozen=True, slots=True)
class Cell:
    shape: str
    kv: str
    ctx: int
    slots: int
    ubatch: int
    placement: str

    def __str__(self) -> str:
        return f"{self.shape}-{self.kv}-{self.ctx // 1024}k-np{self.slots}-ub{self.ubatch}-{self.placement}"


def matrix(shapes: tuple[str, ...], placements: tuple[str, ...] = PLACEMENTS) -> Iterator[Cell]:
    """Every cell; `experts` means -ncmoe for models with experts and -ncffn for the others."""
    for parts in itertools.product(shapes, KV, CONTEXTS, SLOTS, UBATCHES, placements):
        yield Cell(*parts)


def representative(shapes: tuple[str, ...], count: int) -> list[Cell]:
    """`count` cells in which every shape, and every value of every other axis, appears several times."""
    cells = []
    for number in range(count):
        shape = shapes[number % len(shapes)]
        turn = number // len(shapes)
        mixed = number * 7 + turn * 3
        cells.append(
            Cell(
                shape,
                KV[(mixed + turn) % 3],
                CONTEXTS[(mixed // 3 + number) % 3],
                SLOTS[(number + turn) % 2],
                UBATCHES[(number // 2 + turn) % 2],
                PLACEMENTS[(number + turn * 2) % 5],
            )
        )
    return cells


class Bench:
    """Shapes written once, facts read once; `run` compares one cell."""

    def __init__(self, folder: Path, oracle: Oracle, cpu_flags: tuple[str, ...]) -> None:
        self._folder = folder
        self._oracle = oracle
        self._cpu_flags = cpu_flags
        self._facts: dict[str, ModelFacts] = {}
        self._paths: dict[str, Path] = {}

    def facts(self, name: str) -> ModelFacts:
        if name not in self._facts:
            shape = shape_of(name)
            self._paths[name] = shape.write(self._folder)
            self._facts[name] = read_facts(shape.header(), path=str(self._paths[name]))
        return self._facts[name]

    def run(self, cell: Cell) -> tuple[Checked, ...]:
        facts = self.facts(cell.shape)
        return self.compare(facts, assignment(facts, cell))

    def compare(
        self,
        facts: ModelFacts,
        a: Assignment,
        devices: tuple[Device, ...] | None = None,
        drafter: ModelFacts | None = None,
    ) -> tuple[Checked, ...]:
        if devices is None:
            devices = () if a.ngl == 0 else (Device("RPC0", "RPC", 24000, 24000),)
        estimator = Estimator(facts, devices, cpu_flags=self._cpu_flags, drafter=drafter)
        if not devices and estimator.packs_latent:
            a = replace(a, no_repack=True)
        memory = estimator.estimate(a)
        argv = flags(facts, a, Goal(draft=drafter))
        reported = self._oracle.measure(Path(facts.path), argv[2:], on_gpu=bool(devices))
        return check(memory, reported.devices, reported.host)


def assignment(facts: ModelFacts, cell: Cell) -> Assignment:
    top, third = facts.n_layer_all + 1, facts.n_layer_all // 3
    in_ram = "ncmoe" if facts.moe else "ncffn"
    placement = {
        "gpu": {"ngl": top},
        "partial": {"ngl": third},
        "experts": {"ngl": top, in_ram: third},
        "nkvo": {"ngl": top, "nkvo": True},
        "cpu": {"ngl": 0, "has_gpu": True},
        "partial-nkvo": {"ngl": third, "nkvo": True},
        "experts-nkvo": {"ngl": top, "nkvo": True, in_ram: third},
        "partial-experts": {"ngl": 2 * third + 1, in_ram: facts.n_layer_all - third},
    }[cell.placement]
    base = Assignment(
        ctx=cell.ctx, ngl=0, type_k=cell.kv, type_v=cell.kv, parallel=cell.slots, ubatch=cell.ubatch, threads=1
    )
    return replace(base, **placement)  # type: ignore[arg-type]


def cpu_flags() -> tuple[str, ...]:
    """What this machine's CPU can do, as the product detects it: it decides how weights in RAM are packed."""
    return detect.cpu().flags
