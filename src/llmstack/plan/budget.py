"""How much memory a plan may use: what is free now, less a margin."""

from __future__ import annotations

from llmstack.hardware import Device, Hardware, Ram
from llmstack.plan.goal import Goal
from llmstack.plan.result import Budget

# A device's estimate is exact for what llama.cpp reports, and an upper one for the driver's context (docs/planner.md,
# "Memory against the real llama.cpp"). The margin is for what it leaves out: growth while the server runs, and other
# programs on the card. Two published peaks to hold it against: one lay 4 % above the estimate, one 3 % below it
# (points 11 and 13 of docs/planner.md).
VRAM_MARGIN_MIB = 256
VRAM_MARGIN_SHARE = 40  # one part in so many of the card's memory
# Other programs' pages; a quarter of what is free at the most, so that a full machine can still be planned for.
RAM_MARGIN_MIB = 512
RAM_MARGIN_SHARE = 16


def vram_margin_mib(device: Device) -> int:
    return max(VRAM_MARGIN_MIB, device.total_mib // VRAM_MARGIN_SHARE)


def ram_margin_mib(ram: Ram, free_mib: int) -> int:
    return min(max(RAM_MARGIN_MIB, ram.total_mib // RAM_MARGIN_SHARE), max(free_mib // 4, 0))


def budgets(hardware: Hardware, goal: Goal) -> Budget:
    """MiB: free memory less the goal's margins or our own; for RAM the cgroup's limit where it is lower.

    A device that shares the machine's RAM has no margin of its own: RAM's is the operating system's share of the one
    pool, and `Search.pooled_mib` counts what it holds there.
    """
    vram, ram = goal.vram_margin_mib, goal.ram_margin_mib
    free = hardware.ram.available_mib
    if hardware.ram.limit_mib is not None:
        free = min(free, hardware.ram.limit_mib)
    left = free - (ram_margin_mib(hardware.ram, free) if ram is None else ram)
    for_others = goal.keep_free_mib or 0
    devices = (
        min(d.free_mib, left - for_others)
        if d.unified
        else d.free_mib - max(vram_margin_mib(d) if vram is None else vram, for_others)
        for d in hardware.devices
    )
    return Budget(tuple(max(mib, 0) for mib in devices), max(left, 0))
