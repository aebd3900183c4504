"""Pictures a second, with a backlog that never runs dry: all jobs of a run are due at once.

What a run takes includes its end, when batches are no longer full, for every side alike.
"""

from statistics import median

from benchmarks.bench import Bench, plain
from benchmarks.estimates import percentile

NAME = "throughput"
MIXES = ("homogeneous", "mixed")


def measure(bench: Bench) -> None:
    """Record the throughput of every side, of the engine in process, and the engine's padding and lag."""
    for mix in MIXES:
        for repeat, side in bench.repeats([*bench.settings.sides, "engine"]):
            if side == "engine":
                _engine(bench, mix, repeat)
            else:
                _server(bench, mix, repeat, side)


def capacity(bench: Bench, side: str, mix: str) -> float:
    """Pictures a second of a side, from what was recorded, or measured now."""
    found = bench.results.values(NAME, mix, side, "throughput")
    if not found:
        for repeat in range(bench.settings.repeats):
            _server(bench, mix, repeat, side)
        found = bench.results.values(NAME, mix, side, "throughput")
    return median(found)


def _server(bench: Bench, mix: str, repeat: int, side: str) -> None:
    jobs = bench.mixes[mix].jobs(bench.settings.burst, seed=repeat + 1)
    seconds = bench.burst(side, jobs).seconds
    bench.record(NAME, mix, side, repeat, "pictures/s", throughput=len(jobs) / seconds)


def _engine(bench: Bench, mix: str, repeat: int) -> None:
    jobs = bench.mixes[mix].jobs(bench.settings.burst, seed=repeat + 1)
    with bench.probe("engine") as probe:
        reply = probe.ask("burst", jobs=plain(jobs))
    bench.record(NAME, mix, "engine", repeat, "pictures/s", throughput=len(jobs) / reply["seconds"])
    padding = 1 - reply["rows_needed"] / reply["rows_computed"]
    bench.record(NAME, mix, "engine", repeat, "share", padding=padding)
    late = reply["lag"]
    bench.record(
        NAME, mix, "engine", repeat, "s", loop_lag_p50=median(late), loop_lag_p99=percentile(late, 0.99)
    )
