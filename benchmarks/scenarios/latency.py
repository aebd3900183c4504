"""Latency and goodput when jobs come as a Poisson process, at shares of the capacity of BentoML.

The objective of goodput is the same for all sides: three times the latency that such a job has at an idle
plain diffusers. Every job's latency is kept, for a run has too few of them to tell a p99.
"""

from statistics import median

from benchmarks.bench import Bench, turns
from benchmarks.estimates import goodput, percentile
from benchmarks.jobs import Job, Mix
from benchmarks.scenarios.throughput import capacity

NAME = "latency"
UNLOADED = "unloaded"
CAPACITY_OF = "bentoml"
OBJECTIVE_OF = "diffusers"
OBJECTIVE = 3.0


def measure(bench: Bench, repeat: int) -> None:
    """Record each side's latencies, goodput and how late it answers health checks meanwhile."""
    mixes = [bench.mixes[name] for name in bench.settings.latency_mixes]
    _unloaded(bench, repeat, mixes)
    for mix in mixes:
        full = capacity(bench, CAPACITY_OF, mix.name)
        for load in bench.settings.loads:
            for side in turns(repeat, bench.settings.latency_sides):
                with bench.forgiving(NAME, repeat):
                    _arrivals(bench, mix, load, load * full, repeat, side)


def kind(job: Job) -> str:
    """Jobs of one kind take the same time."""
    return f"{job.steps} steps{', guided' if job.guidance > 1 else ''}"


def _unloaded(bench: Bench, repeat: int, mixes: list[Mix]) -> None:
    """Record what each kind of job takes at an idle side, for each mix the median and the most of them, and
    for mixes of unlike steps what the shortest takes.
    """
    kinds: dict[str, Job] = {}
    for mix in mixes:
        for steps, guidance in mix.classes():
            job = Job("a red apple", repeat, steps, guidance, bench.loras[0])
            kinds.setdefault(kind(job), job)
    for side in turns(repeat, list(dict.fromkeys([*bench.settings.latency_sides, OBJECTIVE_OF]))):
        replies = bench.in_turn(side, list(kinds.values()))
        seconds = dict(zip(kinds, (outcome.latency for outcome in replies.outcomes), strict=True))
        for name, took in seconds.items():
            bench.record(NAME, f"{UNLOADED}, {name}", side, repeat, "s", latency=took)
        for mix in mixes:
            taken = [seconds[kind(Job("", 0, *each, None))] for each in mix.classes()]
            case = f"{UNLOADED}, {mix.name}"
            bench.record(NAME, case, side, repeat, "s", p50=median(taken), most=max(taken), least=min(taken))


def _objective(bench: Bench, job: Job) -> float:
    return OBJECTIVE * median(bench.results.values(NAME, f"{UNLOADED}, {kind(job)}", OBJECTIVE_OF, "latency"))


def _arrivals(bench: Bench, mix: Mix, load: float, rate: float, repeat: int, side: str) -> None:
    jobs = mix.jobs(max(2, round(rate * bench.settings.arrivals_seconds)), seed=repeat + 1)
    replies = bench.arrivals(side, jobs, rate, seed=bench.settings.seed + repeat)
    case = f"{mix.name}, {load:.0%} load"
    latencies = [outcome.latency for outcome in replies.outcomes]
    shortest = min(mix.steps)
    for job, took in zip(jobs, latencies, strict=True):
        bench.record(NAME, case, side, repeat, "s", latency=took)
        if shortest < max(mix.steps) and job.steps == shortest:
            bench.record(NAME, case, side, repeat, "s", short_latency=took)
    good = goodput(latencies, [_objective(bench, job) for job in jobs], replies.seconds)
    bench.record(NAME, case, side, repeat, "pictures/s", goodput=good, offered=rate)
    if replies.health:
        bench.record(NAME, case, side, repeat, "s", health_p99=percentile(replies.health, 0.99))
