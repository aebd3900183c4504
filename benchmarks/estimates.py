"""What is said of measured numbers: percentiles, medians with intervals, goodput, the cost of a step.

It doesn't know what was measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values don't exceed, between two of them by a straight line.

    Raises:
        ValueError: there are no values, or the share is out of range.
    """
    if not len(values):
        raise ValueError("no values")
    return float(np.quantile(np.asarray(values, dtype=float), share))


def median(values: Sequence[float], seed: int = 0) -> Estimate:
    """The median with its bootstrap interval (percentile method); one value alone is its own interval."""
    return _bootstrap(np.asarray(values, dtype=float)[:, None], lambda middle: middle[..., 0], seed)


def ratio(values: Sequence[float], others: Sequence[float], seed: int = 0) -> Estimate:
    """The ratio of two medians. The values are pairs, measured one after the other, and are drawn as pairs:
    what slowed both says nothing about the ratio.

    Raises:
        ValueError: they are not equally many, or there are none.
    """
    pairs = np.column_stack([np.asarray(values, dtype=float), np.asarray(others, dtype=float)])
    return _bootstrap(pairs, lambda middle: middle[..., 0] / middle[..., 1], seed)


def goodput(latencies: Sequence[float], objectives: Sequence[float], seconds: float) -> float:
    """Replies a second within their objective, each latency with its own. A failure is an infinite latency.

    Raises:
        ValueError: they are not equally many, or no time went by.
    """
    if not seconds > 0:
        raise ValueError("no time went by")
    good = sum(took <= limit for took, limit in zip(latencies, objectives, strict=True))
    return good / seconds


@dataclass(frozen=True, slots=True)
class StepCost:
    """t(B) = a·B + b seconds for a step of B UNet rows."""

    a: float
    b: float

    @classmethod
    def fit(cls, rows: Sequence[int], seconds: Sequence[float]) -> Self:
        """The line by Theil and Sen: the median of the slopes of all pairs, which outliers don't bend.

        Raises:
            ValueError: fewer than two unlike row counts.
        """
        points = list(zip(rows, seconds, strict=True))
        slopes = [(t - u) / (m - n) for (m, t), (n, u) in combinations(points, 2) if m != n]
        if not slopes:
            raise ValueError("steps of at least two sizes are needed")
        a = float(np.median(slopes))
        return cls(a, float(np.median([t - a * m for m, t in points])))

    def seconds(self, rows: float) -> float:
        """Time of one step."""
        return self.a * rows + self.b

    def bound(self, rows_per_picture: float, rows_per_step: float, other_seconds: float = 0.0) -> float:
        """The most pictures a second that steps always full can give.

        Args:
            rows_per_picture: UNet rows of a picture over all its steps, in the mean.
            rows_per_step: of a full step.
            other_seconds: of a picture outside of steps, such as decoding.
        """
        return 1 / (rows_per_picture * self.seconds(rows_per_step) / rows_per_step + other_seconds)


def _bootstrap(rows: Array, statistic: Callable[[Array], Array], seed: int) -> Estimate:
    if not len(rows):
        raise ValueError("no values")
    drawn = np.random.default_rng(seed).integers(0, len(rows), (RESAMPLES, len(rows)))
    resampled = statistic(np.median(rows[drawn], axis=1))
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(statistic(np.median(rows, axis=0))), float(low), float(high))
