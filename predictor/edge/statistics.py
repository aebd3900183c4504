"""`GET /v2/models/{model}/stats`: what has become of the pictures asked for under a name, by what drew them.

The fields are those of Triton's statistics extension. It knows neither who draws nor what else a server has
to tell.
"""

import time
from collections.abc import Mapping

from pydantic import BaseModel, Field


class Duration(BaseModel):
    """How often, and how long all of them took."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self.ns += round(seconds * 1e9)


class InferenceStats(BaseModel):
    """Times of pictures; `success` and `fail` from their arrival, the rest of those that were drawn."""

    success: Duration = Field(default_factory=Duration)
    fail: Duration = Field(default_factory=Duration)
    queue: Duration = Field(default_factory=Duration)
    compute_input: Duration = Field(default_factory=Duration)
    compute_infer: Duration = Field(default_factory=Duration)
    compute_output: Duration = Field(default_factory=Duration)


class ModelStats(BaseModel):
    """The pictures asked for under one name that one version drew, or should have drawn."""

    name: str = Field(description="the name that was asked for")
    version: str = Field(description="the number of the version, empty where there is none or several")
    lora: str = Field(description="the exact LoRA; `mix`: several, `none`: the plain base, empty: unknown")
    last_inference: int = Field(default=0, description="when the latest was done, in ms since 1970")
    inference_count: int = Field(default=0, description="pictures drawn")
    inference_stats: InferenceStats = Field(default_factory=InferenceStats)


class StatsReply(BaseModel):
    """What every server tells."""

    model_stats: list[ModelStats] = Field(default_factory=list)
    requests: dict[str, int] = Field(
        default_factory=dict,
        description="requests under this name by their HTTP status, or gRPC's translated",
    )


class Statistics:
    """Counts since the start of the process; on one event loop."""

    def __init__(self) -> None:
        self._models: dict[str, dict[str, ModelStats]] = {}

    def of(self, name: str) -> list[ModelStats]:
        """Those of one name, by what drew them; none before its first picture."""
        return list(self._models.get(name, {}).values())

    def drawn(self, name: str, lora: str, seconds: float, stages: Mapping[str, float]) -> None:
        """Count a picture. `stages` are seconds by the fields of InferenceStats; `lora` is a label."""
        stats = self._model(name, lora)
        stats.inference_count += 1
        stats.last_inference = time.time_ns() // 1_000_000
        stats.inference_stats.success.add(seconds)
        for stage, spent in stages.items():
            getattr(stats.inference_stats, stage).add(spent)

    def failed(self, name: str, lora: str, seconds: float) -> None:
        """Count a picture that could not be drawn though the request was right."""
        self._model(name, lora).inference_stats.fail.add(seconds)

    def _model(self, name: str, lora: str) -> ModelStats:
        known = self._models.setdefault(name, {})
        if lora not in known:
            known[lora] = ModelStats(name=name, version=lora.partition("@")[2], lora=lora)
        return known[lora]
