"""Sizes as a person reads them, in the binary units that the planner counts in. Pure."""

from __future__ import annotations

MIB, GIB = 1 << 20, 1 << 30  # bytes


def mib_text(mib: float) -> str:
    """An amount of memory given in MiB."""
    return f"{mib / 1024:.1f} GiB" if mib >= 1000 else f"{mib:.0f} MiB"


def bytes_text(count: int) -> str:
    """The size of a file given in bytes."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"
