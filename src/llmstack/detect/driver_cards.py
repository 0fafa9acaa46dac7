"""What a driver tells of its cards, whichever driver it is: memory, links, and which process holds how much."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from llmstack.hardware import Device

# Usable GB/s of one PCIe lane by generation: transfer rate times line coding (PCI Express base specification).
LANE_GBPS = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """used_mib: None where the driver does not say (WSL, some virtual GPUs). computes: not only for a screen."""

    pid: int
    used_mib: int | None
    computes: bool = True


@dataclass(frozen=True, slots=True)
class DriverCard:
    """uuid: as CUDA_VISIBLE_DEVICES names it, empty where the driver has none."""

    device: Device
    processes: tuple[GpuProcess, ...] = ()
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class DriverCards:
    """cards: in the driver's order, one in MIG mode as its instances.

    driver: its version. problem: why it does not answer, empty where there is no such driver. warnings: a sentence
    each, for a person whose plan lacks a card.
    """

    cards: tuple[DriverCard, ...] = ()
    driver: str | None = None
    problem: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(card.device for card in self.cards)

    @property
    def processes(self) -> tuple[tuple[GpuProcess, ...], ...]:
        return tuple(card.processes for card in self.cards)


def held_mib(processes: Collection[GpuProcess], pids: Collection[int]) -> int | None:
    """MiB of one device that these processes compute with; None when it has none of them, or does not say."""
    used = [p.used_mib for p in processes if p.computes and p.pid in pids and p.used_mib is not None]
    return sum(used) if used else None
