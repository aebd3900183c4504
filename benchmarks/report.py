"""The results as Markdown: the goals, and every number with its confidence interval and its ratio to ours."""

import json
from collections.abc import Iterator

from benchmarks.estimates import Estimate, pooled, pooled_ratio
from benchmarks.goals import Goal, goals
from benchmarks.results import Result, Results

OURS = ("predictor", "engine")


def report(results: Results) -> str:
    """The whole report."""
    return "\n".join(
        [
            "# Benchmark",
            "",
            about(results),
            "",
            "## Goals",
            "",
            *table(results, goals(results)),
            "",
            *_measurements(results),
            "## Settings and machine",
            "",
            "```json",
            json.dumps(results.about, indent=2),
            "```",
            "",
        ]
    )


def about(results: Results) -> str:
    """What was measured where, in a paragraph."""
    settings, machine = results.about["settings"], results.about["machine"]
    rounds = len({row.repeat for row in results.rows if row.scenario != "drift"})
    steps = "/".join(map(str, settings["steps"]))
    return (
        f"{machine['processor']}, {machine['cores']} cores, {settings['device']}, {settings['dtype']}, "
        f"{settings['threads']} threads; {rounds} rounds; jobs of {steps} steps, at most "
        f"{settings['max_batch_size']} pictures in a batch. Medians over the rounds, or "
        "percentiles over the jobs of all rounds, with 95 % bootstrap intervals in brackets; the sides of a "
        "ratio are paired by round."
    )


def table(results: Results, wanted: list[Goal]) -> Iterator[str]:
    """The lines of a table of goals; the last column says what bounds them."""
    yield from ["| goal | wanted | measured | met | at best |", "|---|---|---|---|---|"]
    for goal in wanted:
        found, bound = goal.estimate(results), goal.bound(results)
        limit = f"{'≥' if goal.at_least else '≤'} {_number(goal.limit)}"
        measured, met = (
            ("not measured", "")
            if found is None
            else (_estimate(found), "yes" if goal.met(found.value) else "**no**")
        )
        best = f"{_estimate(bound)}: {goal.best_is}" if bound else ""
        yield f"| {goal.text} | {limit} | {measured} | {met} | {best} |"


def _measurements(results: Results) -> Iterator[str]:
    scenarios = dict.fromkeys(row.scenario for row in results.rows)
    for scenario in scenarios:
        rows = [row for row in results.rows if row.scenario == scenario]
        yield from [
            f"## {scenario}",
            "",
            "| case | metric | side | median | ours to it |",
            "|---|---|---|---|---|",
        ]
        for case, metric, unit in dict.fromkeys((row.case, row.metric, row.unit) for row in rows):
            yield from _sides(results, rows, case, metric, unit)
        yield ""


def _sides(results: Results, rows: list[Result], case: str, metric: str, unit: str) -> Iterator[str]:
    """A line for each side, and one more for the p99 where a round has many values."""
    sides = dict.fromkeys(row.side for row in rows if (row.case, row.metric) == (case, metric))
    scenario = rows[0].scenario
    ours = next((side for side in OURS if side in sides), None)
    runs = {side: results.runs(scenario, case, side, metric) for side in sides}
    many = any(len(values) > 1 for each in runs.values() for values in each.values())
    for share, suffix in ((0.5, " p50"), (0.99, " p99")) if many else ((0.5, ""),):
        for side, own in runs.items():
            found = _estimate(pooled(list(own.values()), share))
            times = ""
            if ours and side != ours and runs[ours].keys() == own.keys() and all(map(all, own.values())):
                times = _estimate(pooled_ratio(list(runs[ours].values()), list(own.values()), share))
            yield f"| {case} | {metric}{suffix}, {unit} | {side} | {found} | {times} |"


def _estimate(found: Estimate) -> str:
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
