"""The results as Markdown: the goals, and every number with its confidence interval and its ratio to ours."""

import json
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.estimates import Estimate
from benchmarks.goals import Goal, Measured, goals
from benchmarks.results import FAILED, Result, Results

OURS = ("predictor", "engine")
NOT_BY_ROUND = (FAILED, "pictures", "memory", "drift")


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
    failed = sum(row.scenario == FAILED for row in results.rows)
    steps = "/".join(map(str, settings["steps"]))
    return (
        f"{machine['processor']}, {machine['cores']} cores, {settings['device']}, {settings['dtype']}, "
        f"{settings['threads']} threads; {_rounds(results)}; jobs of {steps} steps, at most "
        f"{settings['max_batch_size']} pictures in a batch. Medians over the rounds, or "
        "percentiles over the jobs of all rounds, with 95 % bootstrap intervals in brackets; the sides of a "
        "ratio are paired by round." + (f" {failed} turns failed and are left out." if failed else "")
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


def _rounds(results: Results) -> str:
    """How many: fewer of some scenarios where the run was cut off."""
    rounds: dict[str, set[int]] = {}
    for row in results.rows:
        if row.scenario not in NOT_BY_ROUND:
            rounds.setdefault(row.scenario, set()).add(row.repeat)
    numbers = sorted({len(found) for found in rounds.values()}) or [0]
    several = "" if numbers[-1] == 1 else "s"
    return f"{' to '.join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))} round{several}"


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
    """A line for each side, and one more for the p99 where a round has many values, with their number."""
    values: dict[str, list[float]] = {}
    repeats = set()
    for row in rows:
        if (row.case, row.metric) == (case, metric):
            values.setdefault(row.side, []).append(row.value)
            repeats.add((row.side, row.repeat))
    ours = next((side for side in OURS if side in values), None)
    many = sum(map(len, values.values())) > len(repeats)
    for share, suffix in ((0.5, " p50"), (0.99, " p99")) if many else ((0.5, ""),):
        for side, own in values.items():
            number = Measured(rows[0].scenario, case, side, metric, share)
            found, times = number.estimate(results), None
            if ours and side != ours and min(own + values[ours]) > 0:  # else a ratio says nothing
                times = replace(number, side=ours).estimate(results, number)
            what = f"{metric}{suffix}{f' of {len(own)}' if many else ''}, {unit}"
            yield f"| {case} | {what} | {side} | {_estimate(found)} | {_estimate(times)} |"


def _estimate(found: Estimate | None) -> str:
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]" if found else ""


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
