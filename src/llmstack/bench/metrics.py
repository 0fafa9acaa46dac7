"""What a bench measures, by the names that its history keeps."""

from __future__ import annotations

import enum
import re


class Quantity(enum.StrEnum):
    """Its value is the metric's name, or the beginning of it where there is one for each depth or number of streams."""

    PREFILL = "prefill at"
    DECODE = "decode at"
    STREAMS = "decode,"
    FIRST_COLD = "first token cold"
    FIRST_WARM = "first token warm"
    FIRST_RESTARTED = "first token after restart"
    HIT_RATIO = "cache hit ratio"
    OVERHEAD = "proxy overhead"

    @property
    def is_first_token(self) -> bool:
        return self in (Quantity.FIRST_COLD, Quantity.FIRST_WARM, Quantity.FIRST_RESTARTED)


_COUNTED = re.compile(r"(?P<quantity>prefill at|decode at|decode,) \d+(?: streams)?")


def prefill_at(depth: int) -> str:
    """depth: tokens that are cached already."""
    return f"{Quantity.PREFILL} {depth}"


def decode_at(depth: int) -> str:
    return f"{Quantity.DECODE} {depth}"


def decode_of(streams: int) -> str:
    """All of so many answers at once."""
    return f"{Quantity.STREAMS} {streams} streams"


def quantity_of(name: str) -> Quantity | None:
    """What a metric of this name measures; None for a name that this release does not write."""
    counted = _COUNTED.fullmatch(name)
    try:
        return Quantity(counted["quantity"] if counted is not None else name)
    except ValueError:
        return None
