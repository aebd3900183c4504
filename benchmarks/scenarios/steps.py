"""What a denoising step costs: t(B) = a·B + b, beside plain diffusers, and what LoRAs add to it.

The bound: the throughput that the same jobs would have if every step were full and nothing cost time but
steps and the decoding of full batches. The roof: what it would be if all their arithmetic ran as fast as one
large matrix product.
"""

from statistics import median

from benchmarks.bench import Bench, turns
from benchmarks.estimates import StepCost
from benchmarks.scenarios import throughput

NAME = "steps"
SIDES = ("engine", "diffusers")
PROBES = {"engine": "steps", "diffusers": "diffusers-steps"}


def measure(bench: Bench, repeat: int) -> None:
    """Record a and b, step times by LoRAs, and the bound of each mix."""
    settings = bench.settings
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for rows in settings.step_rows:
        for side in turns(repeat, SIDES):
            seconds[side].append(_step(bench, side, [bench.row_loras[0]] * rows))
            bench.record(NAME, f"{rows} rows", side, repeat, "s", step=seconds[side][-1])
    for side in turns(repeat, SIDES):
        bench.record(NAME, "1 row, no LoRA", side, repeat, "s", step=_step(bench, side, [None]))
        cost = StepCost.fit(settings.step_rows, seconds[side])
        bench.record(NAME, "t(B) = a·B + b", side, repeat, "s", a=cost.a, b=cost.b)
    _loras(bench, repeat)
    _bound(bench, repeat, StepCost.fit(settings.step_rows, seconds["engine"]))


def _step(bench: Bench, side: str, loras: list[str | None]) -> float:
    with bench.probe(PROBES[side]) as probe:
        return median(probe.ask("step", loras=loras, count=bench.settings.step_count))


def _loras(bench: Bench, repeat: int) -> None:
    """A full batch with no LoRA, with one, with every row another."""
    rows = bench.settings.max_batch_size
    cases: dict[str, list[str | None]] = {
        "no LoRA": [None] * rows,
        "one LoRA": [bench.row_loras[0]] * rows,
        "every row another LoRA": [*bench.row_loras],
    }
    for case in turns(repeat, list(cases)):
        bench.record(NAME, case, "engine", repeat, "s", step=_step(bench, "engine", cases[case]))


def _bound(bench: Bench, repeat: int, cost: StepCost) -> None:
    """A full step has as many pictures as it may, guided ones with two rows."""
    size, count = bench.settings.max_batch_size, bench.settings.step_count
    with bench.probe("steps") as probe:
        decode = median(probe.ask("decode", rows=size, count=count)) / size
    bench.record(NAME, "one picture", "engine", repeat, "s", decode=decode)
    with bench.probe("diffusers-steps") as probe:
        operations, rate = probe.ask("operations"), median(probe.ask("rate", count=count))
    bench.record(NAME, "arithmetic", "diffusers", repeat, "FLOP", **operations)
    bench.record(NAME, "large matrix product", "device", repeat, "FLOP/s", rate=rate)
    for name in throughput.MIXES:
        jobs = throughput.backlog(bench, name, repeat)
        work = [(job.steps, job.unet_rows) for job in jobs]
        least = cost.least_seconds(work, size) + decode * len(jobs)
        bench.record(NAME, name, "bound", repeat, "pictures/s", throughput=len(jobs) / least)
        all_operations = operations["row"] * sum(rows for _, rows in work) + operations["decode"] * len(jobs)
        bench.record(NAME, name, "roof", repeat, "pictures/s", throughput=len(jobs) * rate / all_operations)
