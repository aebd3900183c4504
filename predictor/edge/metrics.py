"""What Prometheus is told about requests, the same for REST and gRPC: how many ended how, and their times.

Knows a request by its log line's fields; which models there are is not known here.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

SECONDS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)

UNKNOWN = "unknown"
"""The label of requests that reached no model: strangers' words must not become labels."""


class RequestMetrics:
    """`emoji_requests_total{model,status}` and `emoji_request_seconds{model}`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "emoji_requests",
            "Requests for pictures by their HTTP status, that of gRPC calls translated",
            ["model", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "emoji_request_seconds",
            "Time of requests for pictures, without those refused (4xx): a refusal is quick",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )

    def count(self, fields: Mapping[str, Any], http_status: int, seconds: float) -> None:
        """Count one request that has ended.

        Args:
            fields: of its log line; `model` is there once a model that is served was found.
            http_status: of the reply, or what it would be over HTTP.
            seconds: from its first byte to its last.
        """
        model = fields.get("model", UNKNOWN)
        self._requests.labels(model=model, status=str(http_status)).inc()
        if not 400 <= http_status < 500:
            self._seconds.labels(model=model).observe(seconds)

    def by_status(self, model: str) -> dict[str, int]:
        """How many requests for a model's pictures ended with each status."""
        (family,) = self._requests.collect()
        return {
            sample.labels["status"]: int(sample.value)
            for sample in family.samples
            if sample.name.endswith("_total") and sample.labels["model"] == model
        }


@cache
def request_metrics(registry: CollectorRegistry = REGISTRY) -> RequestMetrics:
    """The metrics of a registry, which takes each name only once; by default those at /metrics."""
    return RequestMetrics(registry)
