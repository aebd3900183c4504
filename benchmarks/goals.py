"""What this project wants to reach against the peers, each goal as a recorded number or a ratio of two, and
what bounds it, recorded by the same run.
"""

from dataclasses import dataclass

from benchmarks.estimates import Estimate, pooled, pooled_ratio
from benchmarks.results import Results
from benchmarks.scenarios.starting import BARE, LIBRARIES


@dataclass(frozen=True, slots=True)
class Measured:
    """Where a number is found in the results."""

    scenario: str
    case: str
    side: str
    metric: str
    share: float = 0.5
    """Which percentile of the values of all rounds it is: the median where a round has but one."""

    def runs(self, results: Results) -> dict[int, list[float]]:
        """The values of each round."""
        return results.runs(self.scenario, self.case, self.side, self.metric)

    def estimate(self, results: Results, to: "Measured | None" = None) -> Estimate | None:
        """The number, or its ratio to another one over the rounds that have both; None without any."""
        own = self.runs(results)
        if to is None:
            return pooled(list(own.values()), self.share) if own else None
        other = to.runs(results)
        both = sorted(own.keys() & other.keys())
        if not both:
            return None
        return pooled_ratio([own[run] for run in both], [other[run] for run in both], self.share)


@dataclass(frozen=True, slots=True)
class Goal:
    """`what` is to be at most or at least `limit`: the number itself, or its ratio to another one."""

    text: str
    what: Measured
    to: Measured | None
    limit: float
    at_least: bool = False
    best: Measured | None = None
    """What takes the place of `what` if nothing of ours cost time but `best_is`."""
    best_is: str = ""

    def estimate(self, results: Results) -> Estimate | None:
        """The measured value, or None if it was not measured."""
        return self.what.estimate(results, self.to)

    def bound(self, results: Results) -> Estimate | None:
        """What could be measured at best, or None if nothing says it."""
        return self.best.estimate(results, self.to) if self.best else None

    def met(self, value: float) -> bool:
        """Whether a value is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit


def goals(results: Results) -> list[Goal]:
    """All of them; the cases' names follow from the settings."""
    settings = results.about["settings"]
    load = f"{0.7 if 0.7 in settings['loads'] else settings['loads'][0]:.0%} load"
    found = [*_throughput(), *_latency(load), *_engine(settings["device"]), *_server()]
    if settings["device"] == "cuda":
        roof = Measured("steps", "homogeneous", "roof", "throughput")
        ours = Measured("throughput", "homogeneous", "predictor", "throughput")
        found.append(Goal("homogeneous throughput to the device's roof", ours, roof, 0.55, at_least=True))
    return found


def _throughput() -> list[Goal]:
    def measured(side: str, mix: str = "mixed") -> Measured:
        return Measured("throughput", mix, side, "throughput")

    mixed, same = (Measured("steps", mix, "bound", "throughput") for mix in ("mixed", "homogeneous"))
    full = "steps always full, at the measured a and b"
    ours, homogeneous = measured("predictor"), measured("predictor", "homogeneous")
    return [
        Goal(
            "either: mixed throughput to plain diffusers",
            ours,
            measured("diffusers"),
            4.0,
            True,
            mixed,
            full,
        ),
        Goal("or: mixed throughput to the bound of t(B)", ours, mixed, 0.9, True),
        Goal("mixed throughput to BentoML", ours, measured("bentoml"), 2.5, True, mixed, full),
        Goal(
            "mixed throughput to BentoML, batches grouped",
            ours,
            measured("bentoml-grouped"),
            2.5,
            True,
            mixed,
            full,
        ),
        Goal(
            "homogeneous throughput to BentoML",
            homogeneous,
            measured("bentoml", "homogeneous"),
            1.0,
            True,
            same,
            full,
        ),
        Goal("mixed throughput to the engine in process", ours, measured("engine"), 0.97, True),
    ]


def _latency(load: str) -> list[Goal]:
    def measured(side: str, share: float, mix: str = "mixed", metric: str = "latency") -> Measured:
        return Measured("latency", f"{mix}, {load}", side, metric, share)

    def idle(metric: str, share: float, mix: str = "mixed") -> Measured:
        return Measured("latency", f"unloaded, {mix}", "predictor", metric, share)

    alone, short = "the predictor when it is idle", "short among long"
    return [
        Goal(
            f"mixed p50 at {load} to BentoML",
            measured("predictor", 0.5),
            measured("bentoml", 0.5),
            0.6,
            best=idle("p50", 0.5),
            best_is=alone,
        ),
        Goal(
            f"mixed p99 at {load} to BentoML",
            measured("predictor", 0.99),
            measured("bentoml", 0.99),
            0.4,
            best=idle("most", 0.99),
            best_is=f"{alone}, its longest jobs",
        ),
        Goal(
            f"p99 of short jobs among long ones at {load} to BentoML",
            measured("predictor", 0.99, short, "short_latency"),
            measured("bentoml", 0.99, short, "short_latency"),
            1 / 8,
            best=idle("least", 0.99, short),
            best_is=f"{alone}, short jobs",
        ),
    ]


def _engine(device: str) -> list[Goal]:
    def step(case: str, side: str = "engine") -> Measured:
        return Measured("steps", case, side, "step")

    return [
        Goal(
            "a step, every row another LoRA, to none",
            step("every row another LoRA"),
            step("no LoRA"),
            1.05 if device == "cuda" else 1.1,
            best=step("one LoRA"),
            best_is="one LoRA for all rows",
        ),
        Goal(
            "a step of one row with a LoRA to diffusers",
            step("1 rows"),
            step("1 rows", "diffusers"),
            0.6,
            best=step("1 row, no LoRA"),
            best_is="the same step without a LoRA",
        ),
        Goal(
            "wait of a job that joins, p99 in steps",
            Measured("joining", "first step of a job that joins", "engine", "wait", 0.99),
            None,
            1.1,
        ),
        Goal("padding of the UNet's rows", Measured("throughput", "mixed", "engine", "padding"), None, 0.05),
        Goal(
            "lag of the event loop under load, p99 in seconds",
            Measured("throughput", "mixed", "engine", "loop_lag_p99"),
            None,
            0.005,
        ),
    ]


def _server() -> list[Goal]:
    def ready(side: str) -> Measured:
        return Measured("starting", "until ready", side, "ready")

    return [
        Goal(
            "seconds that serving adds, p50",
            Measured("overhead", "one step", "predictor", "added"),
            None,
            0.002,
            best=Measured("overhead", "health route", "predictor", "p50"),
            best_is="the server's cheapest route",
        ),
        Goal(
            "until ready, to `import torch, diffusers`",
            ready("predictor"),
            ready(BARE),
            1.25,
            best=ready(LIBRARIES),
            best_is="the import of all libraries it needs",
        ),
    ]
