"""What Prometheus is told at /metrics beside KServe's own histograms."""

from collections.abc import Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from predictor.contract import NO_LORA, read_mix
from predictor.diffusion.adapters import MAX_RESIDENT
from predictor.diffusion.checkpoint import Checkpoint
from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.sample import Sample
from predictor.engine.engine import Engine

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MIX = "mix"
ROWS = (1, 2, 4, 8, 16, 32, 64)


class MeasuredDiffuser(Diffuser):
    """A diffuser that measures each of its steps; one in a process, since metrics are."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        max_resident_loras: int = MAX_RESIDENT,
        fixed_rows: int | None = None,
    ) -> None:
        super().__init__(checkpoint, device, max_resident_loras, fixed_rows)
        self._seconds = Histogram("emoji_step_seconds", "Time of one denoising step", buckets=SECONDS)
        self._rows = Histogram("emoji_step_rows", "Pictures in one denoising step", buckets=ROWS)
        loras = Gauge("emoji_loras", "Versions of LoRAs that are served")
        loras.set_function(lambda: len(self.adapters))
        resident = Gauge("emoji_resident_loras", "Those of them in the device's memory")
        resident.set_function(lambda: len(self.resident_adapters))
        padding = Gauge("emoji_padding_share", "Rows of the UNet's calls that are copies, as a share of all")
        padding.set_function(lambda: self.padding_share)

    def step(self, samples: Sequence[Sample]) -> list[Sample | ArithmeticError]:
        """One denoising step, measured."""
        with self._seconds.time():
            stepped = super().step(samples)
        self._rows.observe(len(samples))
        return stepped


class Metrics:
    """The engine's gauges, read when scraped, and counters of what was drawn."""

    def __init__(self, engine: Engine, registry: CollectorRegistry = REGISTRY) -> None:
        queue = Gauge("emoji_queue_rows", "Pictures waiting for a place in the batch", registry=registry)
        queue.set_function(lambda: engine.queue_depth)
        active = Gauge("emoji_active_rows", "Pictures being drawn", registry=registry)
        active.set_function(lambda: engine.active_rows)
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

    def drawn(self, lora: str) -> None:
        """Count a picture of an exact LoRA or mix."""
        self._pictures.labels(lora=_label(lora)).inc()
        if _label(lora) == MIX:
            for version, _ in read_mix(lora):
                self._mixed.labels(lora=version).inc()

    def failed(self, lora: str) -> None:
        """Count a picture that an exact LoRA or mix should have drawn."""
        self._failed.labels(lora=_label(lora)).inc()


def _label(lora: str) -> str:
    """An exact LoRA as a label: callers choose the text of a mix, so that can't be one."""
    versions = [version for version, _ in read_mix(lora)]
    return MIX if len(versions) > 1 else next(iter(versions), NO_LORA)
