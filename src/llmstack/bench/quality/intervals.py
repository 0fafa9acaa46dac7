"""95 % intervals of a mean and of a share. Pure."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import msgspec

Z = 1.96
RESAMPLES = 2000


class Interval(msgspec.Struct, frozen=True):
    """value lies between low and high in 95 of 100 repetitions; n: samples."""

    value: float
    low: float
    high: float
    n: int

    def apart_from(self, other: Interval) -> bool:
        return self.high < other.low or other.high < self.low


def of_share(successes: int, n: int) -> Interval:
    """Wilson's score interval (E. B. Wilson, 1927): right for few samples and shares near 0 and 1, too."""
    if n == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    share = successes / n
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return Interval(_short(share), _short(max(middle - half, 0.0)), _short(min(middle + half, 1.0)), n)


def of_mean(values: Sequence[float], seed: int = 1) -> Interval:
    """The bootstrap's percentiles: distances of distributions have a long tail, so no normal law is assumed."""
    if not values:
        return Interval(0.0, 0.0, 0.0, 0)
    rng, n = random.Random(seed), len(values)
    means = sorted(statistics.fmean(rng.choices(values, k=n)) for _ in range(RESAMPLES))
    low, high = means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]
    return Interval(_short(statistics.fmean(values)), _short(low), _short(high), n)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
