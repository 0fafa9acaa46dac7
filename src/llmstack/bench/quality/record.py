"""One measurement of quality as it is kept."""

from __future__ import annotations

import msgspec

from llmstack.bench.quality.intervals import Interval


class KindQuality(msgspec.Struct, frozen=True):
    """A cache type (or a file), against the reference. kl: nats, by depth and over all; same: share of equal likeliest
    tokens. tasks: by kind of task, the share that came out exactly; seconds: what measuring it took."""

    kind: str
    kl: Interval
    same: Interval
    kl_at: dict[int, Interval]
    same_at: dict[int, Interval]
    tasks: dict[str, Interval]
    seconds: float


class QualityRun(msgspec.Struct, frozen=True):
    """reference: what `kinds` are compared with, its own row first. at: seconds since the epoch."""

    model: str
    path: str
    engine: str
    reference: str
    depths: tuple[int, ...]
    places: int
    kinds: tuple[KindQuality, ...]
    at: float
    seconds: float
