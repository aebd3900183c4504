"""How long a short job waits when a long one is being drawn.

From outside: how much later than from an idle server its picture comes. In process: the time until its first
step begins, in steps.
"""

import random
from statistics import median

from benchmarks.bench import Bench, plain, turns
from benchmarks.jobs import Job

NAME = "joining"
LONG_STEPS = 900  # nearly as many as a scheduler has; what is left of them is cancelled


def measure(bench: Bench, repeat: int) -> None:
    """Record the delay at each side, and the waits for the first step in the engine."""
    for side in turns(repeat, [*bench.settings.latency_sides, "engine"]):
        source = random.Random(bench.settings.seed + repeat)
        with bench.forgiving(NAME, repeat):
            if side == "engine":
                _engine(bench, repeat, source)
            else:
                _server(bench, repeat, side, source)


def _server(bench: Bench, repeat: int, side: str, source: random.Random) -> None:
    """One long job, and a short one at a random moment of its drawing, several times."""
    long, short = bench.settings.steps[-1], bench.settings.steps[0]
    lora = bench.loras[0]
    seeds = range(repeat * 1000, repeat * 1000 + bench.settings.delays)
    alone_short, alone_long = (
        median(
            outcome.latency
            for outcome in bench.in_turn(
                side, [Job("a red apple", seed, steps, 2.0, lora) for seed in seeds]
            ).outcomes
        )
        for steps in (short, long)
    )
    delays = []
    for seed in seeds:
        pair = [Job("a blue car", seed, long, 2.0, lora), Job("a red hat", seed, short, 2.0, lora)]
        came = source.uniform(0.1, 0.8) * alone_long
        delays.append(bench.schedule(side, pair, [0.0, came]).outcomes[1].latency - alone_short)
    bench.record(NAME, "short job while a long one runs", side, repeat, "s", delay=median(delays))


def _engine(bench: Bench, repeat: int, source: random.Random) -> None:
    settings = bench.settings
    first = (repeat + 1) * 10_000
    long = [Job("a blue car", first, LONG_STEPS, 1.0, bench.loras[0])]
    short = [
        Job("a red hat", first + number, settings.steps[0], 1.0, bench.loras[number % len(bench.loras)])
        for number in range(1, settings.joins + 1)
    ]
    gaps = [source.uniform(0, 2) for _ in short]
    with bench.probe("engine") as probe:
        waits = probe.ask("join", long=plain(long), short=plain(short), gaps=gaps)
    for wait in waits:
        bench.record(NAME, "first step of a job that joins", "engine", repeat, "steps", wait=wait)
