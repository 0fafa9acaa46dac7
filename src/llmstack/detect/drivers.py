"""The devices that an engine lists, beside what the drivers know of the same cards.

The engine's list says what can be computed on, under which name, and how much is free. A driver adds the link, the
bandwidth, and which process holds what.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from llmstack.detect import amdgpu, nvml
from llmstack.detect.driver_cards import DriverCard, DriverCards, held_mib
from llmstack.hardware import Device
from llmstack.plan.devices import bare_name, vendor_of

# cudaMemGetInfo is asked by a process with a context of its own: that much less is free to it than to a server which
# the planner gives a context of its own again (llama.cpp pull 25465: 506 MiB on a 5090).
OWN_CONTEXT_MIB = 1024
_SAME_SIZE = 0.05


def read() -> DriverCards:
    """NVIDIA's by NVML and AMD's by /sys, together; version and problem are those of NVIDIA's driver."""
    nvidia, amd = nvml.read(), amdgpu.read()
    return replace(nvidia, cards=(*nvidia.cards, *amd.cards), warnings=(*nvidia.warnings, *amd.warnings))


def beside(
    devices: Sequence[Device], cards: Sequence[DriverCard], environ: Mapping[str, str]
) -> tuple[DriverCard | None, ...]:
    """The driver's card of each device, None where no driver knows it. environ: what hides cards from the engine."""
    left: dict[str, list[DriverCard]] = {}
    matched = []
    for device in devices:
        pool = left.setdefault(device.backend, list(_visible(cards, device.backend, environ)))
        if device.backend == "RPC":  # a card of another machine
            pool = []
        card = next((card for card in pool if bare_name(card.device.name) == bare_name(device.name)), None)
        card = card or next((card for card in pool if _alike(card.device, device)), None)
        if card is not None:
            pool.remove(card)
        matched.append(card)
    return tuple(matched)


def with_driver(device: Device, card: DriverCard | None) -> Device:
    """The engine's device with what its driver knows more."""
    if card is None:
        return device
    known = card.device
    free = device.free_mib
    if device.free_mib < known.free_mib <= device.free_mib + OWN_CONTEXT_MIB:
        free = min(known.free_mib, device.total_mib)
    return replace(
        device,
        free_mib=free,
        bandwidth_gbps=device.bandwidth_gbps or known.bandwidth_gbps,
        compute_tflops=device.compute_tflops or known.compute_tflops,
        compute_capability=device.compute_capability or known.compute_capability,
        link_gbps=device.link_gbps or known.link_gbps,
        unified=device.unified or known.unified,
        integrated=device.integrated or known.integrated,
    )


def held_by_device(cards: Sequence[DriverCard | None], pids: Collection[int]) -> list[int | None]:
    """MiB that these processes compute with, of each device; None where no driver tells."""
    return [held_mib(card.processes, pids) if card is not None else None for card in cards]


def _visible(cards: Sequence[DriverCard], backend: str, environ: Mapping[str, str]) -> Sequence[DriverCard]:
    """The cards that a program of this backend can see, in its order (CUDA C++ programming guide, environment)."""
    if backend != "CUDA":
        return cards
    cards = [card for card in cards if card.device.backend == "CUDA"]
    names = environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return cards
    visible: list[DriverCard] = []
    for name in (part.strip() for part in names.split(",")):
        if name.isdigit() and int(name) < len(cards):
            visible.append(cards[int(name)])
        elif name.startswith(("GPU-", "MIG-")):
            visible += [card for card in cards if card.uuid.startswith(name)]
        else:
            break  # what follows an invalid name is hidden
    return visible or cards  # names of another order (CUDA_DEVICE_ORDER): by name and size then


def _alike(known: Device, device: Device) -> bool:
    """A driver that has no name for a card is known by its size."""
    if known.backend == "CUDA" and device.backend == "CUDA":
        return True  # in the same order, by PCI bus
    if (vendor_of(known.name) == "nvidia") != (vendor_of(device.name) == "nvidia"):
        return False
    return abs(known.total_mib - device.total_mib) <= _SAME_SIZE * max(known.total_mib, device.total_mib, 1)
