"""How a model is divided among several devices: which of them compute, and which share each gets.

A share of 0 leaves a device out. llama.cpp itself uses every device and divides by free memory
(llama_model::load_tensors in src/llama-model.cpp), so that a slow second card slows every token down.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from llmstack.hardware import Device
from llmstack.plan.assignment import NO_DEVICE, Assignment
from llmstack.plan.cards import Card

MOST_SUBSETS_OF = 3  # with more devices only the fastest 1, 2, 3, … of them are tried
HALVINGS = 6  # of the slower devices' share: to a 64th of it

Shares = tuple[float, ...]


def choices(devices: Sequence[Device], cards: Sequence[Card]) -> list[Shares]:
    """All devices first, then some of them: by free memory, 0 for the others."""
    count = len(devices)
    if count < 2:
        return [()]
    by_speed = sorted(range(count), key=lambda n: -cards[n].bandwidth_gbps)
    if count <= MOST_SUBSETS_OF:
        subsets = [set(s) for size in range(count - 1, 0, -1) for s in itertools.combinations(range(count), size)]
    else:
        subsets = [set(by_speed[:size]) for size in range(count - 1, 0, -1)]
    part = [tuple(float(max(d.free_mib, 1)) * (n in one) for n, d in enumerate(devices)) for one in subsets]
    return [(), *part]


def onto_the_fastest(
    a: Assignment, cards: Sequence[Card], budget: Sequence[float], fits: Callable[[Assignment], bool]
) -> Assignment | None:
    """The same with as much on the fastest of its devices as fits there; None where nothing is gained by that."""
    shares = a.split or tuple(float(mib) for mib in budget)
    used = [n for n, share in enumerate(shares) if share > 0]
    speeds = {cards[n].bandwidth_gbps for n in used}
    if not a.ngl or len(used) < 2 or len(speeds) < 2:
        return None
    fastest = max(used, key=lambda n: cards[n].bandwidth_gbps)
    low, high, best = 0.0, 1.0, None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        split = tuple(round(share if n == fastest else share * middle, 1) for n, share in enumerate(shares))
        tried = replace(a, split=split)
        if fits(tried):
            best, high = tried, middle
        else:
            low = middle
    return best


def with_devices(a: Assignment, devices: Sequence[Device]) -> Assignment:
    """The same with the devices that compute by name, and with a share for each of several."""
    if not devices:
        return replace(a, devices=(), split=())
    if not a.ngl:
        return replace(a, devices=NO_DEVICE)
    if len(devices) == 1:
        return replace(a, devices=(devices[0].id,))
    shares = a.split or tuple(float(max(device.free_mib, 1)) for device in devices)
    names = tuple(device.id for device, share in zip(devices, shares, strict=True) if share > 0)
    return replace(a, devices=names, split=shares)
