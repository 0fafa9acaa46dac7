"""Random machines and models for the planner, by seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from llmstack.hardware import Cpu, Device, Hardware, Ram
from llmstack.plan.facts import ModelFacts, read_facts
from support.planner import shapes

CARDS = ("RTX 3060", "RTX 3090", "RTX 4070", "RTX 5090", "H100", "Some Card 9000")


@dataclass(frozen=True, slots=True)
class Draw:
    number: int
    facts: ModelFacts
    hardware: Hardware
    ctx: int


@cache
def facts(name: str) -> ModelFacts:
    return read_facts(shapes.shape_of(name).header(), path=f"/models/{name}.gguf")


NAMES = tuple(make().name for make in shapes.ALL)


def machine(
    vram_gib: float, ram_gib: float, *, backend: str = "CUDA", card: str = "RTX 4070", gpus: int = 1
) -> Hardware:
    total = int(vram_gib * 1024)
    devices = tuple(Device(card, backend, total, int(total * 0.97)) for _ in range(gpus)) if total else ()
    ram = int(ram_gib * 1024)
    return Hardware(Ram(ram, int(ram * 0.9), None, 60.0), Cpu(8, 16, ("avx2",)), devices)


def draws(count: int, seed: int, *, backend: str = "CUDA", most_vram: float = 80.0) -> Iterator[Draw]:
    """Shape, VRAM 4 to 80 GiB, RAM 8 to 256 GiB, context 8k to 128k; one machine in eight has two cards."""
    chance = random.Random(seed)
    for number in range(count):
        vram = 4 * (most_vram / 4) ** chance.random()
        ram = 8 * 32 ** chance.random()
        gpus = 2 if chance.random() < 0.125 and backend == "CUDA" else 1
        hardware = machine(vram, ram, backend=backend, card=chance.choice(CARDS), gpus=gpus)
        yield Draw(number, facts(chance.choice(NAMES)), hardware, chance.choice((8192, 32768, 65536, 131072)))
