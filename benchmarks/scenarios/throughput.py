"""Pictures a second, with a backlog that never runs dry: all jobs of a run are due at once.

What a run takes includes its end, when batches are no longer full, for every side alike.
"""

from statistics import median

from benchmarks.bench import Bench, plain, turns
from benchmarks.estimates import percentile
from benchmarks.jobs import Job

NAME = "throughput"
MIXES = ("homogeneous", "mixed")
ALONE = ("diffusers", "diffusers-load", "kserve")  # one picture after the other
AS_THEY_COME = ("bentoml-grouped", "litserve")  # a batch is what waited longest, whatever its settings


def measure(bench: Bench, repeat: int) -> None:
    """Record the throughput of every side, of the engine in process, and the engine's padding and lag."""
    for mix in MIXES:
        for side in turns(repeat, [*bench.settings.sides, "engine"]):
            with bench.forgiving(NAME, repeat):
                if side == "engine":
                    _engine(bench, mix, repeat)
                else:
                    _server(bench, mix, repeat, side)


def capacity(bench: Bench, side: str, mix: str) -> float:
    """Pictures a second of a side in the first round, recorded before or measured now."""
    if not bench.results.values(NAME, mix, side, "throughput"):
        _server(bench, mix, 0, side)
    return bench.results.values(NAME, mix, side, "throughput")[0]


def backlog(bench: Bench, mix: str, repeat: int) -> list[Job]:
    """The jobs of one run, of which some sides get but the first."""
    return bench.mixes[mix].jobs(bench.settings.burst, seed=repeat + 1)


def _server(bench: Bench, mix: str, repeat: int, side: str) -> None:
    jobs = backlog(bench, mix, repeat)
    if side in ALONE:
        jobs = jobs[: bench.settings.burst_alone]
    elif side in AS_THEY_COME and mix == "mixed":
        jobs = jobs[: bench.settings.burst_grouped]
    seconds = bench.burst(side, jobs).seconds
    bench.record(NAME, mix, side, repeat, "pictures/s", throughput=len(jobs) / seconds)


def _engine(bench: Bench, mix: str, repeat: int) -> None:
    jobs = backlog(bench, mix, repeat)
    with bench.probe("engine") as probe:
        reply = probe.ask("burst", jobs=plain(jobs))
    bench.record(NAME, mix, "engine", repeat, "pictures/s", throughput=len(jobs) / reply["seconds"])
    padding = 1 - reply["rows_needed"] / reply["rows_computed"]
    bench.record(NAME, mix, "engine", repeat, "share", padding=padding)
    late = reply["lag"]
    bench.record(
        NAME, mix, "engine", repeat, "s", loop_lag_p50=median(late), loop_lag_p99=percentile(late, 0.99)
    )
