"""What Prometheus is told at /metrics of this process's own work; of requests the edge tells it."""

from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from transformer.translation.cache import CacheStats

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""From the glossary's cache to the longest wait for the predictor."""


class Metrics:
    """Told of every request that got its pictures; a registry takes each name only once."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._translating, self._waiting, self._encoding = (
            Histogram(name, text, buckets=SECONDS, registry=registry)
            for name, text in (
                ("emoji_translation_seconds", "Time from a request's arrival to its English prompts"),
                (
                    "emoji_predictor_wait_seconds",
                    "Time of a request's wait for the predictor",
                ),
                ("emoji_picture_encoding_seconds", "Time of making files of a request's pictures"),
            )
        )

    def done(self, translating: float, waiting: float, encoding: float) -> None:
        """A request has its pictures; times in seconds."""
        self._translating.observe(translating)
        self._waiting.observe(waiting)
        self._encoding.observe(encoding)


class TranslationCache(Collector):
    """For `CollectorRegistry.register`: how often the cache knew a text."""

    def __init__(self, stats: CacheStats) -> None:
        self._stats = stats

    def describe(self) -> Iterable[CounterMetricFamily]:
        """Nothing to check names against: they are only here."""
        return ()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The counts as they are now. A text that is being translated for somebody else is a hit."""
        hits = self._stats.hits + self._stats.joined
        yield CounterMetricFamily("emoji_translation_cache_hits", "Texts whose English was known", hits)
        misses = self._stats.misses
        yield CounterMetricFamily("emoji_translation_cache_misses", "Texts that had to be translated", misses)
