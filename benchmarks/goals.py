"""What this project wants to reach against the peers, each goal as a ratio of two recorded medians."""

from dataclasses import dataclass

from benchmarks.estimates import Estimate, median, ratio
from benchmarks.results import Results


@dataclass(frozen=True, slots=True)
class Measured:
    """Where a number is found in the results."""

    scenario: str
    case: str
    side: str
    metric: str

    def values(self, results: Results) -> list[float]:
        """The numbers of all repeats."""
        return results.values(self.scenario, self.case, self.side, self.metric)


@dataclass(frozen=True, slots=True)
class Goal:
    """`what` is to be at most or at least `limit`: the number itself, or its ratio to another one."""

    text: str
    what: Measured
    to: Measured | None
    limit: float
    at_least: bool = False

    def estimate(self, results: Results) -> Estimate | None:
        """The measured value, or None if it was not measured."""
        values = self.what.values(results)
        others = self.to.values(results) if self.to else []
        if not values or (self.to and not others):
            return None
        if not self.to:
            return median(values)
        if len(values) != len(others):
            values, others = [median(values).value], [median(others).value]
        return ratio(values, others)

    def met(self, value: float) -> bool:
        """Whether a value is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit


def goals(results: Results) -> list[Goal]:
    """All of them; the cases' names follow from the settings."""
    settings = results.about["settings"]
    load = f"{0.7 if 0.7 in settings['loads'] else settings['loads'][0]:.0%} load"

    def latency(side: str, metric: str, mix: str = "mixed") -> Measured:
        return Measured("latency", f"{mix}, {load}", side, metric)

    def throughput(side: str, mix: str = "mixed") -> Measured:
        return Measured("throughput", mix, side, "throughput")

    def step(case: str, side: str = "engine") -> Measured:
        return Measured("steps", case, side, "step")

    def ready(side: str) -> Measured:
        return Measured("starting", "until ready", side, "ready")

    def engine(metric: str) -> Measured:
        return Measured("throughput", "mixed", "engine", metric)

    return [
        Goal(
            "mixed throughput to plain diffusers",
            throughput("predictor"),
            throughput("diffusers"),
            4.0,
            at_least=True,
        ),
        Goal(
            "mixed throughput to the bound of t(B)",
            throughput("predictor"),
            Measured("steps", "mixed", "bound", "throughput"),
            0.9,
            at_least=True,
        ),
        Goal(
            "mixed throughput to BentoML", throughput("predictor"), throughput("bentoml"), 2.5, at_least=True
        ),
        Goal(
            "homogeneous throughput to BentoML",
            throughput("predictor", "homogeneous"),
            throughput("bentoml", "homogeneous"),
            1.0,
            at_least=True,
        ),
        Goal(f"mixed p50 at {load} to BentoML", latency("predictor", "p50"), latency("bentoml", "p50"), 0.6),
        Goal(f"mixed p99 at {load} to BentoML", latency("predictor", "p99"), latency("bentoml", "p99"), 0.4),
        Goal(
            f"p99 of short jobs among long ones at {load} to BentoML",
            latency("predictor", "short_p99", "short among long"),
            latency("bentoml", "short_p99", "short among long"),
            1 / 8,
        ),
        Goal("a step, every row another LoRA, to none", step("every row another LoRA"), step("no LoRA"), 1.1),
        Goal("a step of one row with a LoRA to diffusers", step("1 rows"), step("1 rows", "diffusers"), 0.6),
        Goal(
            "wait of a job that joins, p99 in steps",
            Measured("joining", "first step of a job that joins", "engine", "p99"),
            None,
            1.1,
        ),
        Goal("padding of the UNet's rows", engine("padding"), None, 0.05),
        Goal(
            "seconds that serving adds, p50",
            Measured("overhead", "one step", "predictor", "added"),
            None,
            0.002,
        ),
        Goal(
            "throughput to the engine in process", throughput("predictor"), throughput("engine"), 0.97, True
        ),
        Goal("lag of the event loop under load, p99 in seconds", engine("loop_lag_p99"), None, 0.005),
        Goal(
            "until ready, to `import torch, diffusers`",
            ready("predictor"),
            ready("import torch, diffusers"),
            1.25,
        ),
    ]
