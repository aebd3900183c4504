"""What the predictor adds to the statistics of a name: its engine's, which all names share.

It only describes and reads; the counting is done in `ledger` and `metrics`.
"""

from collections.abc import Iterable, Iterator

import torch
from prometheus_client import PROCESS_COLLECTOR
from pydantic import BaseModel, Field

from predictor.diffusion.diffuser import Diffuser
from predictor.edge import Duration, StatsReply
from predictor.engine.cost_model import CostModel
from predictor.engine.engine import Engine


class QueueStats(BaseModel):
    """The pictures that wait."""

    rows: int
    age_ns: int = Field(description="how long the first of them has waited")
    work_ns: int = Field(description="how long they will take, by the learned costs")


class BatchStats(BaseModel):
    """The engine's calls with so many pictures."""

    batch_size: int
    compute_input: Duration = Field(default_factory=Duration, description="encoding prompts")
    compute_infer: Duration = Field(default_factory=Duration, description="denoising steps")
    compute_output: Duration = Field(default_factory=Duration, description="decoding")


class CostStats(BaseModel):
    """t(B) = a·B + b of one kind of call at one size, learned from the calls."""

    kind: str = Field(
        description="step (B: UNet rows, two with guidance), outer (such a step of the UNet's outer layers "
        "alone) or decode (B: pictures)"
    )
    height: int
    width: int
    row_ns: int = Field(description="a")
    call_ns: int = Field(description="b")


class MemoryStats(BaseModel):
    """As in Triton: `GPU` is what this process's allocator holds, `CPU` its resident memory."""

    type: str
    id: int
    byte_size: int


class EngineStats(BaseModel):
    """The engine, whatever name was asked for."""

    queue: QueueStats
    active_rows: int
    execution_count: int = Field(description="denoising steps, whatever was in them")
    batch_stats: list[BatchStats]
    costs: list[CostStats]
    prompt_cache: dict[str, int] = Field(description="pictures begun by hits and misses")
    shared_pictures: int = Field(description="pictures that somebody else had asked for as well")
    loras: dict[str, int] = Field(description="versions that are served, and those resident on the device")
    memory_usage: list[MemoryStats]


class PredictorStats(StatsReply):
    """The reply."""

    engine: EngineStats


def engine_stats(
    engine: Engine,
    diffuser: Diffuser,
    batches: Iterable[BatchStats],
    prompt_cache: dict[str, int],
    shared_pictures: int,
) -> EngineStats:
    """The engine as it is now, with what was counted elsewhere."""
    batches = sorted(batches, key=lambda batch: batch.batch_size)
    models = {"step": engine.costs.step, "outer": engine.costs.outer, "decode": engine.costs.decode}
    return EngineStats(
        queue=QueueStats(
            rows=engine.queue_depth, age_ns=_ns(engine.queue_age), work_ns=_ns(engine.queue_seconds)
        ),
        active_rows=engine.active_rows,
        execution_count=sum(batch.compute_infer.count for batch in batches),
        batch_stats=batches,
        costs=[cost for kind, model in models.items() for cost in _costs(kind, model)],
        prompt_cache=prompt_cache,
        shared_pictures=shared_pictures,
        loras={"served": len(diffuser.adapters), "resident": len(diffuser.resident_adapters)},
        memory_usage=list(_memory()),
    )


def _costs(kind: str, model: CostModel) -> Iterator[CostStats]:
    for (height, width), line in model.lines.items():
        yield CostStats(kind=kind, height=height, width=width, row_ns=_ns(line.a), call_ns=_ns(line.b))


def _memory() -> Iterator[MemoryStats]:
    for family in PROCESS_COLLECTOR.collect():  # nothing where there is no /proc
        if family.name == "process_resident_memory_bytes":
            yield MemoryStats(type="CPU", id=0, byte_size=int(family.samples[0].value))
    if torch.cuda.is_initialized():
        device = torch.cuda.current_device()
        yield MemoryStats(type="GPU", id=device, byte_size=torch.cuda.memory_reserved(device))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
