"""What predictors counted in a stretch of time: requests by status, and their times, summed over pods that
come and go.

Counters only ever grow, until their process ends; what is judged are their increases. Works on the Prometheus
text of each pod, and does not know how it was fetched, or what is good or bad.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

REQUESTS = "emoji_requests_total"
SECONDS_BUCKET = "emoji_request_seconds_bucket"

Key = TypeVar("Key", str, float)


@dataclass(frozen=True)
class Reading:
    """The counters of one process, over all its models."""

    requests: Mapping[str, float] = field(default_factory=dict)
    """By HTTP status."""
    buckets: Mapping[float, float] = field(default_factory=dict)
    """Requests that took up to so many seconds: cumulative, the last one infinite."""


def parse(text: str) -> Reading:
    """The counters in a `/metrics` page; ValueError where it is none."""
    requests: defaultdict[str, float] = defaultdict(float)
    buckets: defaultdict[float, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == REQUESTS:
                requests[sample.labels["status"]] += sample.value
            elif sample.name == SECONDS_BUCKET:
                buckets[float(sample.labels["le"])] += sample.value
    return Reading(requests, buckets)


@dataclass(frozen=True)
class Measured:
    """What one version did since the watch began."""

    requests: int = 0
    errors: int = 0
    """Replies 5xx. A 4xx is the client's fault, and no error here."""
    timed: int = 0
    """Requests in the histogram."""
    p95: float = math.nan
    """Seconds; infinite where it is above the highest bound."""
    restarts: int = 0

    @property
    def error_rate(self) -> float:
        """Errors by request."""
        return self.errors / self.requests if self.requests else 0.0

    def __str__(self) -> str:
        p95 = "unknown" if math.isnan(self.p95) else f"{self.p95:.2f} s"
        return f"{self.requests} requests, {self.errors} errors 5xx ({self.error_rate:.1%}), p95 {p95}"


@dataclass(frozen=True)
class Process:
    """A pod's predictor between two restarts, and what it says now."""

    pod: str
    """The pod's uid."""
    restarts: int
    reading: Reading | None
    """None where it could not be read."""


class Watch:
    """The increases of one version's counters since the first `add`."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], Reading | None] = {}
        self._restarts: dict[str, tuple[int, int]] = {}
        self._requests: defaultdict[str, float] = defaultdict(float)
        self._buckets: defaultdict[float, float] = defaultdict(float)
        self._begun = False

    def add(self, processes: Iterable[Process]) -> None:
        """Take in what the version's processes say now; the first time, it is what they start from."""
        for process in processes:
            first, _ = self._restarts.get(process.pod, (process.restarts if not self._begun else 0, 0))
            self._restarts[process.pod] = (first, process.restarts)
            key = (process.pod, process.restarts)
            # A process that wasn't there at the beginning started from nothing.
            last = self._last.get(key, Reading() if self._begun else None)
            if process.reading is None:
                self._last[key] = last
                continue
            if last is not None:
                _add_increase(self._requests, last.requests, process.reading.requests)
                _add_increase(self._buckets, last.buckets, process.reading.buckets)
            self._last[key] = process.reading
        self._begun = True

    def measured(self) -> Measured:
        """The sums so far."""
        return Measured(
            requests=round(sum(self._requests.values())),
            errors=round(sum(count for status, count in self._requests.items() if status.startswith("5"))),
            timed=round(self._buckets[math.inf]),
            p95=quantile(self._buckets, 0.95),
            restarts=sum(last - first for first, last in self._restarts.values()),
        )


def _add_increase(
    sums: defaultdict[Key, float], before: Mapping[Key, float], now: Mapping[Key, float]
) -> None:
    """Add that of each counter; one that shrank began anew."""
    for key, value in now.items():
        last = before.get(key, 0)
        sums[key] += value - last if value >= last else value


def quantile(buckets: Mapping[float, float], q: float) -> float:
    """A quantile from a cumulative histogram, linear within a bucket, as Prometheus estimates it.

    Unlike there, one above the highest finite bound is infinite: it must not pass as that bound.
    """
    total = buckets.get(math.inf, 0)
    if not total:
        return math.nan
    rank = q * total
    below_bound, below_count = 0.0, 0.0
    for bound in sorted(buckets):
        if buckets[bound] >= rank:
            share = (rank - below_count) / (buckets[bound] - below_count)
            return bound if math.isinf(bound) else below_bound + (bound - below_bound) * share
        below_bound, below_count = bound, buckets[bound]
    return math.inf
