"""How the servers are compared: one frozen object, from the command line, kept beside every result.

`Settings()` is the full comparison, for a quiet machine; QUICK goes the same ways with as little work as each
of them takes, to see that all of them run.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

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
    """Of every measurement; in each one all sides have their turn."""
    sides: tuple[str, ...] = ("predictor", "diffusers", "diffusers-load", "bentoml", "litserve", "kserve")
    scenarios: tuple[str, ...] = SCENARIOS
    steps: tuple[int, ...] = (8, 20, 50)
    """Of the jobs, ascending."""
    warm_up: int = 40
    """Jobs before anything is measured; BentoML's dispatcher learns from its first 17 calls."""
    burst: int = 96
    """Jobs of one run for throughput."""
    arrivals: int = 100
    """Jobs of one run for latency."""
    loads: tuple[float, ...] = (0.5, 0.7, 0.9)
    """Rates of arrival, as shares of the capacity measured for BentoML."""
    latency_mixes: tuple[str, ...] = ("homogeneous", "mixed", "short among long")
    latency_sides: tuple[str, ...] = ("predictor", "bentoml", "litserve")
    step_rows: tuple[int, ...] = (1, 2, 4, 8, 16)
    step_count: int = 20
    """Steps timed in one run, for each number of rows."""
    joins: int = 40
    switches: int = 16
    overhead_jobs: int = 40
    adapters: int = 100
    memory_sides: tuple[str, ...] = ("predictor", "diffusers")
    drift_requests: int = 10_000
    drift_windows: int = 20
    start_sides: tuple[str, ...] = ("predictor", "diffusers", "bentoml", "litserve", "kserve")
    ready_timeout: float = 600.0
    request_timeout: float = 3600.0


QUICK = Settings(
    repeats=1,
    steps=(1, 2, 4),
    warm_up=6,
    burst=6,
    arrivals=6,
    loads=(0.7,),
    latency_mixes=("mixed", "short among long"),
    latency_sides=("predictor", "bentoml"),
    step_rows=(1, 2, 4),
    step_count=2,
    joins=3,
    switches=2,
    overhead_jobs=3,
    adapters=6,
    drift_requests=12,
    drift_windows=3,
    memory_sides=("predictor",),
    start_sides=("predictor",),
)


def read_settings(argv: Sequence[str]) -> Settings:
    """The settings from a command line; every field is a flag. Ends the process where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares the predictor with other servers; see docs/benchmarks.md.",
        allow_abbrev=False,
    )
    parser.add_argument("--quick", action="store_true", help="all of it with as little work as it takes")
    for each in fields(Settings):
        default = getattr(Settings(), each.name)
        several = isinstance(default, tuple)
        parser.add_argument(
            f"--{each.name}",
            type=type(default[0]) if several else type(default),
            nargs="+" if several else None,
            metavar=each.name.upper(),
            help=f"default: {' '.join(map(str, default)) if several else default}",
        )
    given: dict[str, Any] = vars(parser.parse_args(argv))
    start = QUICK if given.pop("quick") else Settings()
    changes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
    settings = replace(start, **changes)
    unknown = set(settings.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"--scenarios: no {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    if list(settings.steps) != sorted(set(settings.steps)) or settings.repeats < 1:
        parser.error("--steps must ascend, --repeats must be at least 1")
    return settings
