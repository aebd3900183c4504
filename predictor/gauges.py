"""What Prometheus reads at each scrape: the state of queue, batch, costs, LoRAs and the device's memory.

It keeps nothing itself; who has done how much is in `metrics`.
"""

from collections.abc import Iterable, Iterator

import torch
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from predictor.diffusion.diffuser import Diffuser
from predictor.engine.cost_model import CostModel
from predictor.engine.engine import Engine


class Gauges(Collector):
    """For `CollectorRegistry.register`; read on the event loop that drives the engine."""

    def __init__(self, engine: Engine, diffuser: Diffuser) -> None:
        self._engine = engine
        self._diffuser = diffuser

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing to check names against: they are only here."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges, as they are now."""
        engine, diffuser = self._engine, self._diffuser
        for name, text, value in (
            ("emoji_queue_rows", "Pictures waiting for a place in the batch", engine.queue_depth),
            ("emoji_queue_age_seconds", "How long the first of them has waited", engine.queue_age),
            (
                "emoji_queue_work_seconds",
                "How long they will take, by the learned costs",
                engine.queue_seconds,
            ),
            ("emoji_active_rows", "Pictures being drawn", engine.active_rows),
            ("emoji_compute_threads", "CPU threads that computed the last call", engine.threads),
            ("emoji_loras", "Versions of LoRAs that are served", len(diffuser.adapters)),
            (
                "emoji_padding_ratio",
                "Of the UNet's rows so far, those that only filled a call up",
                diffuser.padding_share,
            ),
            ("emoji_resident_loras", "Those of them in the device's memory", len(diffuser.resident_adapters)),
        ):
            yield GaugeMetricFamily(name, text, value)
        yield from self._costs()
        if torch.cuda.is_initialized():
            yield from _device_memory()

    def _costs(self) -> Iterator[GaugeMetricFamily]:
        """t(B) = a·B + b of each kind of call and size."""
        labels = ["kind", "size"]
        row = GaugeMetricFamily(
            "emoji_cost_row_seconds",
            "The a of t(B) = a·B + b, learned: a UNet row's time in a step, a picture's in decoding",
            labels=labels,
        )
        call = GaugeMetricFamily(
            "emoji_cost_call_seconds",
            "The b of t(B) = a·B + b: what a call takes whatever is in it",
            labels=labels,
        )
        costs = self._engine.costs
        models: dict[str, CostModel] = {"step": costs.step, "outer": costs.outer, "decode": costs.decode}
        for kind, model in models.items():
            for (height, width), line in model.lines.items():
                row.add_metric([kind, f"{height}x{width}"], line.a)
                call.add_metric([kind, f"{height}x{width}"], line.b)
        yield from (row, call)


def _device_memory() -> Iterator[GaugeMetricFamily]:
    _, limit = torch.cuda.mem_get_info()
    for name, text, value in (
        ("allocated", "Of the CUDA device, held by tensors", torch.cuda.memory_allocated()),
        ("reserved", "Of the CUDA device, held by this process's allocator", torch.cuda.memory_reserved()),
        ("limit", "Of the CUDA device, all there is", limit),
    ):
        yield GaugeMetricFamily(f"emoji_device_memory_{name}_bytes", text, value)
