"""Latency and goodput when jobs come as a Poisson process, at shares of the capacity of BentoML.

The objective of goodput is the same for all sides: three times the latency that such a job has at an idle
plain diffusers.
"""

from statistics import median

from benchmarks.bench import Bench
from benchmarks.estimates import goodput, percentile
from benchmarks.jobs import Job, Mix
from benchmarks.scenarios.throughput import capacity

NAME = "latency"
UNLOADED = "unloaded"
CAPACITY_OF = "bentoml"
OBJECTIVE_OF = "diffusers"
OBJECTIVE = 3.0


def measure(bench: Bench) -> None:
    """Record each side's latencies, goodput and how late it answers health checks meanwhile."""
    mixes = [bench.mixes[name] for name in bench.settings.latency_mixes]
    objectives = _unloaded(bench, mixes)
    for mix in mixes:
        full = capacity(bench, CAPACITY_OF, mix.name)
        for load in bench.settings.loads:
            for repeat, side in bench.repeats(bench.settings.latency_sides):
                _arrivals(bench, mix, load, load * full, repeat, side, objectives)


def kind(job: Job) -> str:
    """Jobs of one kind take the same time."""
    return f"{job.steps} steps{', guided' if job.guidance > 1 else ''}"


def _unloaded(bench: Bench, mixes: list[Mix]) -> dict[str, float]:
    """The objective of each kind of job, in seconds; records what each side takes when idle."""
    sides = tuple(dict.fromkeys([*bench.settings.latency_sides, OBJECTIVE_OF]))
    kinds: dict[str, tuple[int, float]] = {}
    for mix in mixes:
        for steps, guidance in mix.classes():
            kinds.setdefault(kind(Job("", 0, steps, guidance, None)), (steps, guidance))
    for repeat, side in bench.repeats(sides):
        jobs = [Job("a red apple", repeat, *settings, bench.loras[0]) for settings in kinds.values()]
        for name, outcome in zip(kinds, bench.in_turn(side, jobs).outcomes, strict=True):
            bench.record(NAME, f"{UNLOADED}, {name}", side, repeat, "s", p50=outcome.latency)
    return {
        name: OBJECTIVE * median(bench.results.values(NAME, f"{UNLOADED}, {name}", OBJECTIVE_OF, "p50"))
        for name in kinds
    }


def _arrivals(
    bench: Bench, mix: Mix, load: float, rate: float, repeat: int, side: str, objectives: dict[str, float]
) -> None:
    jobs = mix.jobs(bench.settings.arrivals, seed=repeat + 1)
    replies = bench.arrivals(side, jobs, rate, seed=bench.settings.seed + repeat)
    case = f"{mix.name}, {load:.0%} load"
    latencies = [outcome.latency for outcome in replies.outcomes]
    limits = [objectives[kind(job)] for job in jobs]
    bench.record(
        NAME, case, side, repeat, "s", p50=percentile(latencies, 0.5), p99=percentile(latencies, 0.99)
    )
    good = goodput(latencies, limits, replies.seconds)
    bench.record(NAME, case, side, repeat, "pictures/s", goodput=good, offered=rate)
    shortest = min(mix.steps)
    short = [seconds for seconds, job in zip(latencies, jobs, strict=True) if job.steps == shortest]
    if len(set(mix.steps)) > 1 and short:
        bench.record(NAME, case, side, repeat, "s", short_p99=percentile(short, 0.99))
    if replies.health:
        bench.record(NAME, case, side, repeat, "s", health_p99=percentile(replies.health, 0.99))
