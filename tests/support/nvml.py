"""An NVML whose cards are data: a stand-in for the pynvml module."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

MIB = 1 << 20


class FakeNvml(SimpleNamespace):
    """The few calls of NVML that detection makes, with cards given as data."""

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):
        pass

    class NVMLLibraryMismatchError(Exception):
        """No NVMLError in nvidia-ml-py either: a call that an old driver's library does not have."""

    NVML_CLOCK_MEM = 2
    NVML_CLOCK_SM = 1

    def __init__(self, cards: list[dict[str, Any]], init: Exception | None = None) -> None:
        super().__init__(cards=cards, init=init, was_shut_down=False)

    def nvmlInit(self) -> None:
        if self.init:
            raise self.init

    def nvmlShutdown(self) -> None:
        self.was_shut_down = True

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        card: dict[str, Any] = self.cards[index]
        if "broken" in card:
            raise self.NVMLError("GPU is lost")
        return card

    def nvmlDeviceGetMigMode(self, card: dict[str, Any]) -> tuple[int, int]:
        if "mig" not in card:
            raise self.NVMLError("Not Supported")
        return 1, 1

    def nvmlDeviceGetMaxMigDeviceCount(self, card: dict[str, Any]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: dict[str, Any], index: int) -> dict[str, Any]:
        if index >= len(card["mig"]):
            raise self.NVMLError("Not Found")
        instance: dict[str, Any] = card["mig"][index]
        return instance

    def nvmlDeviceGetName(self, card: dict[str, Any]) -> str | bytes:
        name: str | bytes = card["name"]
        return name

    def nvmlDeviceGetMemoryInfo(self, card: dict[str, Any]) -> SimpleNamespace:
        if "memory" in card:
            raise self.NVMLError(card["memory"])
        return SimpleNamespace(total=card["total"] * MIB, free=card["free"] * MIB)

    def nvmlDeviceGetMemoryBusWidth(self, card: dict[str, Any]) -> int:
        return int(card["bits"])

    def nvmlDeviceGetMaxClockInfo(self, card: dict[str, Any], kind: int) -> int:
        assert kind in (self.NVML_CLOCK_MEM, self.NVML_CLOCK_SM)
        return int(card["mhz"] if kind == self.NVML_CLOCK_MEM else card["sm_mhz"])

    def nvmlDeviceGetCudaComputeCapability(self, card: dict[str, Any]) -> tuple[int, int]:
        if "capability" not in card:
            raise self.NVMLError("Not Supported")
        return int(card["capability"]), round(card["capability"] * 10) % 10

    def nvmlDeviceGetNumGpuCores(self, card: dict[str, Any]) -> int:
        return int(card["cores"])

    def nvmlDeviceGetMaxPcieLinkGeneration(self, card: dict[str, Any]) -> int:
        return int(card["pcie"])

    def nvmlDeviceGetMaxPcieLinkWidth(self, card: dict[str, Any]) -> int:
        return 16

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.95.05"

    def nvmlDeviceGetComputeRunningProcesses(self, card: dict[str, Any]) -> list[SimpleNamespace]:
        """`processes` of a card: MiB by process number; None where nobody says how much; `old`: before 510."""
        return self._running(card, "processes")

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: dict[str, Any]) -> list[SimpleNamespace]:
        return self._running(card, "screens")

    def _running(self, card: dict[str, Any], key: str) -> list[SimpleNamespace]:
        held: dict[int, int | None] | None = card.get(key, {})
        if card.get("old"):
            raise self.NVMLLibraryMismatchError("Unversioned function called")
        if held is None:
            raise self.NVMLError("Not Supported")
        return [SimpleNamespace(pid=p, usedGpuMemory=None if m is None else m * MIB) for p, m in held.items()]


def using(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml | None) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
