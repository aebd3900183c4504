"""What it costs to draw with another LoRA than the job before: jobs one after the other, switching or not."""

from statistics import median

from benchmarks.bench import Bench, turns
from benchmarks.jobs import Job

NAME = "switching"


def measure(bench: Bench, repeat: int) -> None:
    """Record the latency of a job of fewest steps with the same LoRA each time, and with another."""
    steps = bench.settings.steps[0]
    for side in turns(repeat, bench.settings.sides):
        jobs = []
        for number in range(bench.settings.switches):
            same, other = bench.loras[0], bench.loras[1 + number % (len(bench.loras) - 1)]
            # same, same, other: the second job switches nothing, the third does
            seed = repeat * 100_000 + 3 * number
            jobs += [Job("a red apple", seed + part, steps, 1.0, same) for part in range(2)]
            jobs.append(Job("a red apple", seed + 2, steps, 1.0, other))
        with bench.forgiving(NAME, repeat):
            seconds = [outcome.latency for outcome in bench.in_turn(side, jobs).outcomes]
            stayed, switched = median(seconds[1::3]), median(seconds[2::3])
            spent = {"same": stayed, "other": switched, "switch": switched - stayed}
            bench.record(NAME, f"{steps} steps", side, repeat, "s", **spent)
