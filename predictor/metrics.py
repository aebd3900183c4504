"""What Prometheus is told at /metrics of pictures and of the engine's work; of requests the edge tells it.

Counters and histograms are told by those who do the work; what is only read is in `gauges`.
"""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from predictor.contract import MIX, read_mix, version_label
from predictor.engine.worker import CallKind
from predictor.outcome import Ending, Outcome

CALL_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""From a step of a small model on a GPU to one of a large model on a CPU."""

WAIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""From no wait but for the prompt's encoding to the longest request."""

ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Told of every call of the engine, and of every request that has ended; all on the event loop."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """By default what /metrics shows; a registry takes each name only once."""
        self._seconds = {
            kind: Histogram(name, text, buckets=CALL_SECONDS, registry=registry)
            for kind, name, text in (
                (CallKind.ENCODE, "emoji_encode_seconds", "Time of encoding prompts, several at once"),
                (CallKind.STEP, "emoji_step_seconds", "Time of one denoising step"),
                (CallKind.DECODE, "emoji_decode_seconds", "Time of decoding pictures, several at once"),
            )
        }
        self._rows = Histogram(
            "emoji_step_rows", "Pictures in one denoising step", buckets=ROWS, registry=registry
        )
        self._wait = Histogram(
            "emoji_join_wait_seconds",
            "Time from a picture's arrival to its first step",
            buckets=WAIT_SECONDS,
            registry=registry,
        )
        self._pictures = Counter(
            "emoji_pictures",
            "Pictures drawn, by the version of the LoRA; mix: by several",
            ["lora"],
            registry=registry,
        )
        self._mixed = Counter(
            "emoji_mixed_pictures", "Pictures that a LoRA drew with others", ["lora"], registry=registry
        )
        self._failed = Counter(
            "emoji_failed_pictures",
            "Pictures that could not be drawn though the request was right, as emoji_pictures",
            ["lora"],
            registry=registry,
        )
        self._shared = Counter(
            "emoji_shared_pictures",
            "Pictures drawn that cost nothing, since somebody else had asked for the same",
            registry=registry,
        )
        self._hits = Counter(
            "emoji_prompt_cache_hits",
            "Pictures begun whose prompts had been encoded for earlier ones",
            registry=registry,
        )
        self._misses = Counter(
            "emoji_prompt_cache_misses", "Pictures begun whose prompts had to be encoded", registry=registry
        )

    def called(self, kind: CallKind, rows: int, seconds: float) -> None:
        """The engine has computed something for so many rows."""
        if kind in self._seconds:
            self._seconds[kind].observe(seconds)
        if kind is CallKind.STEP:
            self._rows.observe(rows)

    def ended(self, outcome: Outcome) -> None:
        """A request has ended; what was begun for it counts however it did."""
        for lora, course in zip(outcome.loras, outcome.courses, strict=True):
            label = version_label(lora)
            # both from a version's first picture on: a sum with one that is missing would be missing
            drawn, failed = self._pictures.labels(lora=label), self._failed.labels(lora=label)
            if outcome.ending is Ending.DRAWN:
                drawn.inc()
                self._shared.inc(course.shared)
                if label == MIX:
                    for version, _ in read_mix(lora):
                        self._mixed.labels(lora=version).inc()
            elif outcome.ending is Ending.FAILED:
                failed.inc()
            if course.begun is not None and course.arrived is not None:
                self._wait.observe(course.begun - course.arrived)
                if not course.shared:
                    (self._misses if course.encoded else self._hits).inc()

    @property
    def prompt_cache_hits(self) -> int:
        """Pictures begun whose prompts had been encoded for earlier ones."""
        return _total(self._hits)

    @property
    def prompt_cache_misses(self) -> int:
        """The others."""
        return _total(self._misses)

    @property
    def shared_pictures(self) -> int:
        """Pictures drawn that somebody else had asked for as well."""
        return _total(self._shared)


def _total(counter: Counter) -> int:
    """A counter without labels."""
    (family,) = counter.collect()
    return int(next(sample.value for sample in family.samples if sample.name.endswith("_total")))
