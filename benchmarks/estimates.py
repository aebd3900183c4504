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


def pooled(groups: Sequence[Sequence[float]], share: float, seed: int = 0) -> Estimate:
    """A percentile of the values of all groups together, with its bootstrap interval (percentile method).
    Whole groups are drawn, such as all latencies of one run, for they are alike.

    Raises:
        ValueError: there are no groups, or an empty one.
    """
    return _bootstrap([groups], lambda found: found[0], share, seed)


def pooled_ratio(
    groups: Sequence[Sequence[float]], others: Sequence[Sequence[float]], share: float, seed: int = 0
) -> Estimate:
    """The ratio of the same percentile on two sides. Their groups are pairs, measured one after the other,
    and are drawn as pairs: what slowed both says nothing about the ratio.

    Raises:
        ValueError: they are not equally many, there are none, or there is an empty one.
    """
    return _bootstrap([groups, others], lambda found: found[0] / found[1], share, seed)


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

    def least_seconds(self, pictures: Sequence[tuple[int, int]], size: int) -> float:
        """No order of the steps takes less, with at most `size` pictures in each.

        Args:
            pictures: of each one its steps, and its UNet rows over all of them.
            size: of a batch, in pictures.
        """
        steps = [each for each, _ in pictures]
        calls = max(sum(steps) / size, max(steps))
        return self.a * sum(rows for _, rows in pictures) + self.b * calls


def _bootstrap(
    sides: Sequence[Sequence[Sequence[float]]],
    statistic: Callable[[list[Array]], Array],
    share: float,
    seed: int,
) -> Estimate:
    """The statistic of each side's percentile, and its interval when the places of the groups are drawn."""
    count = len(sides[0])
    if not count or not all(len(group) for side in sides for group in side):
        raise ValueError("no values")
    if any(len(side) != count for side in sides):
        raise ValueError("not equally many on both sides")
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    places = np.vstack([np.arange(count), drawn])
    value, *resampled = statistic([_percentiles(side, places, share) for side in sides])
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(value), float(low), float(high))


def _percentiles(groups: Sequence[Sequence[float]], places: NDArray[np.int64], share: float) -> Array:
    """As `percentile`, for many choices of groups at once: float [choices] of int [choices, groups]."""
    lengths = np.array([len(group) for group in groups])
    padded = np.full((len(groups), lengths.max()), np.inf)
    for row, group in zip(padded, groups, strict=True):
        row[: len(group)] = group
    values = np.sort(padded[places].reshape(len(places), -1), axis=1)
    last = lengths[places].sum(axis=1) - 1
    at = share * last
    below = np.floor(at).astype(int)
    low, high = (
        np.take_along_axis(values, place[:, None], axis=1)[:, 0]
        for place in (below, np.minimum(below + 1, last))
    )
    return np.asarray(low + (high - low) * (at - below))
