"""How long a comparison takes: for a night, for an hour, for a look; and the command line."""

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from benchmarks.settings import SCENARIOS, Settings
from benchmarks.sides import commands

# Every goal, five rounds. Jobs have 0.4 times the steps of the night's: short runs hold enough of them.
EVENING = Settings(
    minutes=60,
    steps=(3, 8, 20),
    burst=36,
    burst_alone=9,
    burst_grouped=18,
    arrivals_seconds=16,
    latency_mixes=("mixed", "short among long"),
    latency_sides=("predictor", "bentoml"),
    step_count=12,
    joins=16,
    delays=1,
    switches=2,
    overhead_jobs=20,
    memory_sides=("predictor",),
    start_sides=("predictor",),
    request_timeout=300,
)

# As little work as each way takes, to see that all of them run; its numbers mean nothing.
QUICK = Settings(
    repeats=1,
    steps=(1, 2, 4),
    warm_up=3,
    dispatcher_batches=(1,),
    burst=6,
    burst_alone=2,
    burst_grouped=4,
    arrivals_seconds=4,
    loads=(0.7,),
    latency_mixes=("mixed", "short among long"),
    latency_sides=("predictor", "bentoml"),
    step_rows=(1, 2, 4),
    step_count=2,
    joins=3,
    delays=1,
    switches=1,
    overhead_jobs=3,
    adapters=6,
    drift_requests=12,
    drift_windows=3,
    memory_sides=("predictor",),
    start_sides=("predictor",),
)

PROFILES = {"night": Settings(), "evening": EVENING, "quick": QUICK}


def read_settings(argv: Sequence[str]) -> Settings:
    """The settings from a command line; every field is a flag. Ends the process where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares the predictor with other servers; see docs/benchmarks.md.",
        allow_abbrev=False,
    )
    parser.add_argument("--profile", choices=PROFILES, default="night", help="where the others start from")
    parser.add_argument(
        "--quick", action="store_const", dest="profile", const="quick", help="--profile quick"
    )
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
    start = PROFILES[given.pop("profile")]
    changes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
    settings = replace(start, **changes)
    sides = {*settings.sides, *settings.latency_sides, *settings.memory_sides, *settings.start_sides}
    for flag, named, known in (
        ("--scenarios", set(settings.scenarios), SCENARIOS),
        ("--sides and the like", sides, tuple(commands(settings, Path()))),
    ):
        if unknown := named - set(known):
            parser.error(f"{flag}: no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if list(settings.steps) != sorted(set(settings.steps)) or settings.repeats < 1:
        parser.error("--steps must ascend, --repeats must be at least 1")
    return settings
