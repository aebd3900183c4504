"""What Prometheus is told at /metrics beside KServe's own histograms."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from predictor.engine import Engine


class Metrics:
    """The engine's gauges, read when scraped, and counters of what was drawn."""

    def __init__(self, engine: Engine, registry: CollectorRegistry = REGISTRY) -> None:
        queue = Gauge("emoji_queue_rows", "Pictures waiting for a place in the batch", registry=registry)
        queue.set_function(lambda: engine.queue_depth)
        active = Gauge("emoji_active_rows", "Pictures being drawn", registry=registry)
        active.set_function(lambda: engine.active_rows)
        self._pictures = Counter("emoji_pictures", "Pictures drawn", ["lora"], registry=registry)

    def drawn(self, lora: str) -> None:
        """Count one picture."""
        self._pictures.labels(lora=lora).inc()
