"""Who holds memory of a card now, by program, and the card as it would be without them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from llmstack.detect.driver_cards import DriverCard
from llmstack.hardware import Device

LEAST_MIB = 64  # less than this is not worth a word


@dataclass(frozen=True, slots=True)
class ProgramHold:
    """All processes of one name together; MiB of all cards."""

    program: str
    mib: int


def program(pid: int) -> str:
    import psutil

    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "a process of another user"


def held_by_programs(cards: Sequence[DriverCard | None], ours: Collection[int]) -> tuple[ProgramHold, ...]:
    """The largest first; processes of ours and those whose driver names no figure are left out."""
    held: dict[str, int] = {}
    for card in cards:
        for process in card.processes if card is not None else ():
            if process.pid not in ours and process.used_mib:
                name = program(process.pid)
                held[name] = held.get(name, 0) + process.used_mib
    holds = (ProgramHold(name, mib) for name, mib in held.items() if mib >= LEAST_MIB)
    return tuple(sorted(holds, key=lambda hold: -hold.mib))


def idle(device: Device, card: DriverCard | None, ours: Collection[int]) -> Device:
    """The device with what programs hold counted as free; what the driver itself keeps stays taken."""
    if card is None:
        return device
    held = sum(process.used_mib or 0 for process in card.processes if process.pid not in ours)
    return replace(device, free_mib=min(device.free_mib + held, device.total_mib))
