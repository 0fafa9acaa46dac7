"""Which of the devices that an engine lists a plan may use, and as what: one record for each card.

llama.cpp itself, without -dev, takes the discrete GPUs, one device for each card, and an integrated GPU only where
there is no other (llama_prepare_model_devices in src/llama.cpp). The same is done here before the search, because a
plan always names its devices.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.gguf import printable
from llmstack.hardware import Device, Hardware, Ram
from llmstack.plan.cards import is_integrated

# As ggml registers its backends (ggml-backend-reg.cpp): of two for one card llama.cpp takes the first.
BACKEND_ORDER = ("CUDA", "ROCm", "MUSA", "Metal", "SYCL", "CANN", "Vulkan", "OpenCL", "RPC")
FULL_MIB = 512  # less free memory than this holds no context of a driver
NO_DEVICES = frozenset({"CPU", "BLAS", "AMX", "ACCELERATE", "KLEIDIAI", "ZDNN"})
_PREFIXES = {"Metal": "MTL"}  # what an id begins with, where it is not the backend's own name
_WITH_ID = r"(?P<id>[A-Za-z]+\d+(?:\[[^\]]*\])?): (?P<name>.+)$"
_VENDORS = (
    ("nvidia", r"nvidia|geforce|\b[rg]tx\b|tesla|quadro"),
    ("amd", r"\bamd\b|radeon|instinct|\bgfx\d"),
    ("intel", r"intel|\barc\b|iris|\buhd\b"),
)
LONGEST_NAME = 120
_SAME_SIZE = 0.03  # two backends report the memory of one card this close to each other


@dataclass(frozen=True, slots=True)
class UsableDevices:
    """devices: what a plan searches over. spare: what only a pinned -dev uses. reasons: why, a sentence for each."""

    devices: tuple[Device, ...]
    spare: tuple[Device, ...] = ()
    reasons: tuple[str, ...] = ()


def usable_devices(listed: Sequence[Device], ram: Ram) -> UsableDevices:
    named = with_ids(_described(device, ram) for device in listed)
    real = [d for d in named if d.backend.upper() not in NO_DEVICES and d.total_mib > 0]
    cards, others = _one_backend_each(real)
    spare, reasons = list(others), []
    for other in others:
        reasons.append(f"{other.id} is the same card under another backend: it is used once")
    discrete = [device for device in cards if not device.integrated]
    if discrete and len(discrete) < len(cards):
        left = [device for device in cards if device.integrated]
        spare += left
        reasons += [
            f"{device.id} ({device.name}) is part of the processor and left alone beside a card; "
            f"--set dev={device.id} uses it"
            for device in left
        ]
        cards = discrete
    instances = [device for device in cards if _is_mig(device)]
    if len(instances) > 1:
        chosen = max(instances, key=lambda device: device.free_mib)
        spare += [device for device in instances if device is not chosen]
        cards = [device for device in cards if device is chosen or not _is_mig(device)]
        reasons.append(
            f"{len(instances)} MIG instances are {len(instances)} machines apart: a CUDA program sees one of them; "
            f"planned for {chosen.name} ({chosen.total_mib:,} MiB); CUDA_VISIBLE_DEVICES=MIG-UUID chooses another"
        )
    reasons += [
        f"{device.name} is full: {device.free_mib:,} of {device.total_mib:,} MiB are free"
        for device in cards
        if device.free_mib < FULL_MIB
    ]
    return UsableDevices(tuple(cards), tuple(spare), tuple(reasons))


def usable_hardware(hardware: Hardware) -> tuple[Hardware, UsableDevices]:
    """The machine with the devices that a plan may use."""
    usable = usable_devices(hardware.devices, hardware.ram)
    return replace(hardware, devices=usable.devices), usable


def pinned_devices(hardware: Hardware, spare: Sequence[Device], ids: Sequence[str]) -> Hardware:
    """The machine with these devices only, in this order. Raises BadInput for one that it does not have."""
    there = {device.id: device for device in (*hardware.devices, *spare)}
    for name in ids:
        if name not in there:
            known = ", ".join(f"{device.id} ({device.name})" for device in there.values()) or "none"
            raise BadInput(
                f"-dev names {name}, which the engine does not list",
                why=f"it lists {known}",
                next=command_line("engine", "list"),
            )
    return replace(hardware, devices=tuple(there[name] for name in dict.fromkeys(ids)))


def with_ids(devices: Iterable[Device]) -> list[Device]:
    """Each with an id: its own, the one that its name begins with, else a number among those of its backend."""
    named: list[Device] = []
    devices = list(devices)
    taken = {device.id or (match["id"] if (match := re.match(_WITH_ID, device.name)) else "") for device in devices}
    for device in devices:
        match = re.match(_WITH_ID, device.name) if not device.id else None
        if match is not None:
            device = replace(device, id=match["id"], name=match["name"])
        elif not device.id:
            prefix = _PREFIXES.get(device.backend, device.backend)
            numbers = (n for n in itertools.count() if f"{prefix}{n}" not in taken)
            device = replace(device, id=f"{prefix}{next(numbers)}")
            taken.add(device.id)
        if all(other.id != device.id for other in named):  # a list that names one twice has it once
            named.append(device)
    return named


def _described(device: Device, ram: Ram) -> Device:
    """A part of the processor shares its memory; a driver that knows of none of its own tells nothing of its size.

    What is free is at most what there is: a budget is made of it. A name goes to terminals, so it is escaped.
    """
    free = min(max(device.free_mib, 0), max(device.total_mib, 0))
    device = replace(device, name=printable(device.name, LONGEST_NAME), free_mib=free)
    integrated = device.integrated or device.unified or is_integrated(device.name)
    if not integrated:
        return device
    total = device.total_mib or ram.total_mib
    free = device.free_mib if device.total_mib else ram.available_mib
    return replace(device, total_mib=total, free_mib=free, unified=True, integrated=True)


def _one_backend_each(devices: Sequence[Device]) -> tuple[list[Device], list[Device]]:
    """The devices in their order without those that another backend lists too, and these."""
    cards: list[Device] = []
    again: list[Device] = []
    paired: set[tuple[str, str]] = set()  # a card, and a backend that has been found to list it too
    for device in sorted(devices, key=_rank):
        twin = next(
            (c for c in cards if (c.id, device.backend) not in paired and _is_same_card(c, device)),
            None,
        )
        if twin is None:
            cards.append(device)
        else:
            paired.add((twin.id, device.backend))
            again.append(device)
    place = {device.id: number for number, device in enumerate(devices)}
    return sorted(cards, key=lambda d: place[d.id]), again


def _rank(device: Device) -> int:
    return BACKEND_ORDER.index(device.backend) if device.backend in BACKEND_ORDER else len(BACKEND_ORDER)


def _is_same_card(one: Device, other: Device) -> bool:
    if one.backend == other.backend or "RPC" in (one.backend, other.backend):
        return False
    if bare_name(one.name) == bare_name(other.name):
        return True
    close = abs(one.total_mib - other.total_mib) <= _SAME_SIZE * max(one.total_mib, other.total_mib)
    vendor = vendor_of(one.name)
    return close and bool(vendor) and vendor == vendor_of(other.name)


def vendor_of(name: str) -> str:
    """nvidia, amd or intel; empty where the name does not say."""
    return next((vendor for vendor, words in _VENDORS if re.search(words, name.lower())), "")


def bare_name(name: str) -> str:
    """`AMD Radeon RX 7900 XTX (RADV NAVI31)` and `Radeon RX 7900 XTX` are one card."""
    words = re.sub(r"[^a-z0-9]+", " ", re.sub(r"\([^)]*\)", " ", name.lower())).split()
    return " ".join(word for word in words if word not in ("nvidia", "amd", "intel"))


def _is_mig(device: Device) -> bool:
    return re.search(r"\bMIG\b", device.name) is not None
