"""What the server adds to its engine: the same jobs over HTTP and in process, turn about.

Jobs of one step, so that the picture takes as little as it can.
"""

from statistics import median

from benchmarks.bench import Bench, plain
from benchmarks.jobs import Job

NAME = "overhead"


def measure(bench: Bench) -> None:
    """Record the latencies of both, and their difference."""
    for repeat in range(bench.settings.repeats):
        jobs = [
            Job("a red apple", repeat * 100_000 + number, 1, 1.0, bench.loras[0])
            for number in range(bench.settings.overhead_jobs)
        ]
        server = [outcome.latency for outcome in bench.in_turn("predictor", jobs).outcomes]
        with bench.probe("engine") as probe:
            engine = probe.ask("latency", jobs=plain(jobs))
        bench.record(NAME, "one step", "predictor", repeat, "s", p50=median(server))
        bench.record(NAME, "one step", "engine", repeat, "s", p50=median(engine))
        bench.record(NAME, "one step", "predictor", repeat, "s", added=median(server) - median(engine))
