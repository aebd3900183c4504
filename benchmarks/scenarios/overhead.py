"""What the server adds to its engine: the same jobs over HTTP and in process, turn about.

Jobs of one step, so that the picture takes as little as it can.
"""

import time
from statistics import median

from benchmarks.bench import Bench, plain, turns
from benchmarks.client import ERRORS, Client
from benchmarks.dialect import DIALECTS
from benchmarks.jobs import Job

NAME = "overhead"


def measure(bench: Bench, repeat: int) -> None:
    """Record the latencies of both, their difference, and for comparison that of the cheapest route."""
    jobs = [
        Job("a red apple", repeat * 100_000 + number, 1, 1.0, bench.loras[0])
        for number in range(bench.settings.overhead_jobs)
    ]
    seconds: dict[str, float] = {}
    for side in turns(repeat, ["predictor", "engine"]):
        if side == "predictor":
            seconds[side] = median(outcome.latency for outcome in bench.in_turn(side, jobs).outcomes)
        else:
            with bench.probe(side) as probe:
                seconds[side] = median(probe.ask("latency", jobs=plain(jobs)))
        bench.record(NAME, "one step", side, repeat, "s", p50=seconds[side])
    bench.record(NAME, "health route", "predictor", repeat, "s", p50=_health(bench))
    added = seconds["predictor"] - seconds["engine"]
    bench.record(NAME, "one step", "predictor", repeat, "s", added=added)


def _health(bench: Bench) -> float:
    with bench.server("predictor") as server, Client(server.url, bench.settings.request_timeout) as client:
        path = DIALECTS[server.dialect].health
        taken = []
        for _ in range(bench.settings.overhead_jobs + 1):
            began = time.perf_counter()
            try:
                client.get(path)
            except ERRORS as error:
                raise server.failure(f"does not answer {path}") from error
            taken.append(time.perf_counter() - began)
    return median(taken[1:])  # the first one connects
