"""How the servers are compared: one frozen object, from the command line, kept beside every result.

`Settings()` is the full comparison, a night's; `benchmarks.profiles` has shorter ones.
"""

import os
from dataclasses import dataclass
from pathlib import Path

BENTOML = ("bentoml", "bentoml-grouped")
SCENARIOS = (
    "steps",
    "throughput",
    "latency",
    "joining",
    "switching",
    "overhead",
    "memory",
    "drift",
    "starting",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """One comparison. Times in seconds."""

    model_dir: Path = Path("weights/embedded")
    """base/ and loras/."""
    out: Path = Path("out/bench")
    environments: Path = Path("build/peers")
    """The peers' virtual environments, as `make bench-peers` builds them."""
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = os.cpu_count() or 1
    """torch's threads in every server, all of the machine's cores by default."""
    max_batch_size: int = 8
    """Pictures in one batch of every server that batches."""
    seed: int = 1
    repeats: int = 5
    """Rounds: in each one all scenarios are measured once, and all sides have their turn in each of them."""
    minutes: float = 0.0
    """No scenario begins that would end later than so long after the start, by what it took in the round
    before; no limit if 0."""
    sides: tuple[str, ...] = ("predictor", "diffusers", "diffusers-load", *BENTOML, "litserve", "kserve")
    scenarios: tuple[str, ...] = SCENARIOS
    steps: tuple[int, ...] = (8, 20, 50)
    """Of the jobs, ascending."""
    warm_up: int = 20
    """Jobs of fewest steps before anything is measured."""
    dispatcher_batches: tuple[int, ...] = (*[1] * 9, 2, 3)
    """Batches that train each dispatcher of BentoML, by their jobs."""
    burst: int = 72
    """Jobs that are due at once in one run for throughput."""
    burst_alone: int = 18
    """The same at a side that draws one after the other, which is no faster with more of them waiting."""
    burst_grouped: int = 36
    """The same of mixed jobs at a side that batches them as they come: few of a batch are alike."""
    arrivals_seconds: float = 180.0
    """Length of one run for latency."""
    loads: tuple[float, ...] = (0.5, 0.7, 0.9)
    """Rates of arrival, as shares of the capacity measured for BentoML."""
    latency_mixes: tuple[str, ...] = ("homogeneous", "mixed", "short among long")
    latency_sides: tuple[str, ...] = ("predictor", *BENTOML, "litserve")
    step_rows: tuple[int, ...] = (1, 2, 4, 8, 16)
    step_count: int = 20
    """Steps timed in one run, for each number of rows."""
    joins: int = 40
    """Jobs that join a running batch in the engine, in one round."""
    delays: int = 4
    """Jobs that come while a long one is drawn at a server, in one round."""
    switches: int = 16
    overhead_jobs: int = 40
    adapters: int = 100
    memory_sides: tuple[str, ...] = ("predictor", "diffusers")
    drift_requests: int = 2_000
    """In one round; 10,000 in all of five."""
    drift_windows: int = 20
    """In one round."""
    start_sides: tuple[str, ...] = ("predictor", "diffusers", "bentoml", "litserve", "kserve")
    ready_timeout: float = 600.0
    request_timeout: float = 3600.0
