"""What a denoising step costs: t(B) = a·B + b, beside plain diffusers, and what LoRAs add to it.

The bound: the throughput that steps always full would have. The throughput scenario says how much of it
the server reaches.
"""

from statistics import median

from benchmarks.bench import Bench
from benchmarks.estimates import StepCost

NAME = "steps"


def measure(bench: Bench) -> None:
    """Record a and b, step times by LoRAs, and the bound of each mix."""
    settings, one = bench.settings, bench.loras[0]
    count = settings.step_count
    for repeat in range(settings.repeats):
        ours: list[float] = []
        theirs: list[float] = []
        for rows in settings.step_rows:
            with bench.probe("steps") as probe:
                ours.append(median(probe.ask("step", loras=[one] * rows, count=count)))
            with bench.probe("diffusers-steps") as probe:
                theirs.append(median(probe.ask("step", rows=rows, lora=one, count=count)))
            for side, seconds in (("engine", ours[-1]), ("diffusers", theirs[-1])):
                bench.record(NAME, f"{rows} rows", side, repeat, "s", step=seconds)
        for side, seconds_by_rows in (("engine", ours), ("diffusers", theirs)):
            cost = StepCost.fit(settings.step_rows, seconds_by_rows)
            bench.record(NAME, "t(B) = a·B + b", side, repeat, "s", a=cost.a, b=cost.b)
        _loras(bench, repeat)
        _bound(bench, repeat, StepCost.fit(settings.step_rows, ours))


def _loras(bench: Bench, repeat: int) -> None:
    """A full batch with no LoRA, with one, with every row another."""
    rows, count = bench.settings.max_batch_size, bench.settings.step_count
    cases: dict[str, list[str | None]] = {
        "no LoRA": [None] * rows,
        "one LoRA": [bench.loras[0]] * rows,
        "every row another LoRA": [bench.loras[row % len(bench.loras)] for row in range(rows)],
    }
    with bench.probe("steps") as probe:
        for case, loras in cases.items():
            bench.record(
                NAME, case, "engine", repeat, "s", step=median(probe.ask("step", loras=loras, count=count))
            )


def _bound(bench: Bench, repeat: int, cost: StepCost) -> None:
    """A full batch has as many pictures as it may, guided ones with two rows."""
    size, count = bench.settings.max_batch_size, bench.settings.step_count
    with bench.probe("steps") as probe:
        decode = median(probe.ask("decode", rows=size, count=count)) / size
        begin = median(probe.ask("begin", rows=size, count=count)) / size
    bench.record(NAME, "one picture", "engine", repeat, "s", decode=decode, begin=begin)
    for name in ("homogeneous", "mixed"):
        jobs = bench.mixes[name].jobs(bench.settings.burst, seed=repeat + 1)
        rows = sum(job.unet_rows for job in jobs)
        steps = sum(job.steps for job in jobs)
        bound = cost.bound(rows / len(jobs), size * rows / steps, decode + begin)
        bench.record(NAME, name, "bound", repeat, "pictures/s", throughput=bound)
