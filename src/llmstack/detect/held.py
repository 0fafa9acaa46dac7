"""How much memory of graphics cards a process holds, as the drivers tell it."""

from __future__ import annotations

from collections.abc import Collection

from llmstack.detect import nvml


def vram_held_mib(pids: Collection[int]) -> int | None:
    """MiB of all cards together that these processes compute with; None where no driver tells it by process."""
    held = [nvml.held_mib(running, pids) for running in nvml.read().processes]
    told = [mib for mib in held if mib is not None]
    return sum(told) if told else None
