"""All that is counted, in one place: told by engine and backend, kept for Prometheus, /stats and traces."""

from prometheus_client import REGISTRY, CollectorRegistry

from predictor.contract import version_label
from predictor.diffusion.diffuser import Diffuser
from predictor.edge import Statistics
from predictor.engine.course import Course
from predictor.engine.engine import Engine
from predictor.engine.worker import CallKind
from predictor.metrics import Metrics
from predictor.outcome import Ending, Outcome
from predictor.statistics import BatchStats, engine_stats
from predictor.traces import trace

_FIELDS = {
    CallKind.ENCODE: "compute_input",
    CallKind.STEP: "compute_infer",
    CallKind.DECODE: "compute_output",
}


class Ledger:
    """Told of every call of the engine, and of every request that has ended; all on the event loop."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """By default what /metrics shows; a registry takes each name only once."""
        self._metrics = Metrics(registry)
        self._statistics = Statistics()
        self._batches: dict[int, BatchStats] = {}

    def called(self, kind: CallKind, rows: int, seconds: float) -> None:
        """The engine has computed something for so many rows."""
        self._metrics.called(kind, rows, seconds)
        if kind in _FIELDS:
            batch = self._batches.setdefault(rows, BatchStats(batch_size=rows))
            getattr(batch, _FIELDS[kind]).add(seconds)

    def ended(self, outcome: Outcome) -> None:
        """A request has ended. Call it in the request's own task, where its span is the current one."""
        self._metrics.ended(outcome)
        trace(outcome)
        for lora, course in zip(map(version_label, outcome.loras), outcome.courses, strict=True):
            assert course.arrived is not None, "the engine has been asked"
            if outcome.ending is Ending.DRAWN:
                seconds = (course.drawn or outcome.ended) - course.arrived
                self._statistics.drawn(outcome.model, lora, seconds, _stages(course))
            elif outcome.ending is Ending.FAILED:
                self._statistics.failed(outcome.model, lora, outcome.ended - course.arrived)

    def read(self, model: str, engine: Engine, diffuser: Diffuser) -> dict[str, object]:
        """The statistics of a name: the fields of PredictorStats that are not the edge's own."""
        prompt_cache = {"hits": self._metrics.prompt_cache_hits, "misses": self._metrics.prompt_cache_misses}
        shared = self._metrics.shared_pictures
        return {
            "model_stats": self._statistics.of(model),
            "engine": engine_stats(engine, diffuser, self._batches.values(), prompt_cache, shared),
        }


def _stages(course: Course) -> dict[str, float]:
    """Seconds by Triton's stages. One that had nothing to wait for, as it joined an equal row, waited 0 s."""
    times = [course.arrived, course.admitted, course.begun, course.stepped, course.drawn]
    reached = 0.0
    stages = {}
    for stage, time in zip(
        ("", "queue", "compute_input", "compute_infer", "compute_output"), times, strict=True
    ):
        until = reached if time is None else max(time, reached)
        stages[stage] = until - reached
        reached = until
    del stages[""]
    return stages
