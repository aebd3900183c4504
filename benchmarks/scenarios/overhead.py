"""What the server adds to its engine: the same jobs over HTTP and in process.

Jobs of one step, so that the picture takes as little as it can; each job of one side right beside the same
one of the other, since what computing takes wanders by more than what serving does.
"""

import time
from statistics import median

from benchmarks.bench import Bench, plain, turns
from benchmarks.client import ERRORS, Client
from benchmarks.dialect import DIALECTS
from benchmarks.jobs import Job
from benchmarks.probe import Probe
from benchmarks.server import Server

NAME = "overhead"


def measure(bench: Bench, repeat: int) -> None:
    """Record the latencies of both, their difference, and for comparison that of the cheapest route."""
    with bench.server("predictor") as server, bench.probe("engine") as probe:
        _pair(bench, server, probe, repeat, 0)  # others have had the caches and the memory meanwhile
        pairs = [
            _pair(bench, server, probe, repeat, number + 1) for number in range(bench.settings.overhead_jobs)
        ]
        health = _health(bench, server, pause=median(pair["engine"] for pair in pairs))
    for side in ("predictor", "engine"):
        bench.record(NAME, "one step", side, repeat, "s", p50=median(pair[side] for pair in pairs))
    bench.record(NAME, "health route", "predictor", repeat, "s", p50=health)
    added = median(pair["predictor"] - pair["engine"] for pair in pairs)
    bench.record(NAME, "one step", "predictor", repeat, "s", added=added)


def _pair(bench: Bench, server: Server, probe: Probe, repeat: int, number: int) -> dict[str, float]:
    """Seconds of one job by each side, another one first each time."""
    job = Job("a red apple", repeat * 100_000 + number, 1, 1.0, bench.loras[0])
    seconds: dict[str, float] = {}
    for side in turns(number, ["predictor", "engine"]):
        if side == "predictor":
            [outcome] = bench.ask(server, [job]).outcomes
            seconds[side] = outcome.latency
        else:
            [seconds[side]] = probe.ask("latency", jobs=plain([job]))
    return seconds


def _health(bench: Bench, server: Server, pause: float) -> float:
    """Seconds, asked after a pause each time, as the server has it before each of its jobs above: a processor
    that has slept takes twice as long.
    """
    with Client(server.url, bench.settings.request_timeout) as client:
        path = DIALECTS[server.dialect].health
        taken = []
        for _ in range(bench.settings.overhead_jobs + 1):
            time.sleep(pause)
            began = time.perf_counter()
            try:
                client.get(path)
            except ERRORS as error:
                raise server.failure(f"does not answer {path}") from error
            taken.append(time.perf_counter() - began)
    return median(taken[1:])  # the first one connects
