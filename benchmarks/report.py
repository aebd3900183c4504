"""The results as Markdown: every number with its confidence interval and as a ratio to the predictor's."""

import json
from collections.abc import Iterator

from benchmarks.estimates import Estimate, median, ratio
from benchmarks.goals import goals
from benchmarks.results import Result, Results

OURS = ("predictor", "engine")


def report(results: Results) -> str:
    """The whole report."""
    return "\n".join(
        [
            "# Benchmark",
            "",
            f"Medians of {results.about['settings']['repeats']} interleaved repeats, with 95 % bootstrap "
            "intervals in brackets. A ratio is that of the predictor, or its engine, to its line's side.",
            "",
            *_goals(results),
            *_measurements(results),
            "## Settings and machine",
            "",
            "```json",
            json.dumps(results.about, indent=2),
            "```",
            "",
        ]
    )


def _goals(results: Results) -> Iterator[str]:
    yield from ["## Goals", "", "| goal | wanted | measured | met |", "|---|---|---|---|"]
    for goal in goals(results):
        found = goal.estimate(results)
        wanted = f"{'≥' if goal.at_least else '≤'} {_number(goal.limit)}"
        measured, met = (
            ("not measured", "")
            if found is None
            else (
                _estimate(found),
                "yes" if goal.met(found.value) else "no",
            )
        )
        yield f"| {goal.text} | {wanted} | {measured} | {met} |"
    yield ""


def _measurements(results: Results) -> Iterator[str]:
    scenarios = dict.fromkeys(row.scenario for row in results.rows)
    for scenario in scenarios:
        rows = [row for row in results.rows if row.scenario == scenario]
        yield from [
            f"## {scenario}",
            "",
            "| case | metric | side | median | ratio |",
            "|---|---|---|---|---|",
        ]
        for case, metric, unit in dict.fromkeys((row.case, row.metric, row.unit) for row in rows):
            yield from _sides(results, rows, case, metric, unit)
        yield ""


def _sides(results: Results, rows: list[Result], case: str, metric: str, unit: str) -> Iterator[str]:
    sides = dict.fromkeys(row.side for row in rows if (row.case, row.metric) == (case, metric))
    scenario = rows[0].scenario
    ours = next((side for side in OURS if side in sides), None)
    own = results.values(scenario, case, ours, metric) if ours else []
    for side in sides:
        values = results.values(scenario, case, side, metric)
        compared = side != ours and len(own) == len(values) and all(values)
        times = _estimate(ratio(own, values)) if compared else ""
        yield f"| {case} | {metric}, {unit} | {side} | {_estimate(median(values))} | {times} |"


def _estimate(found: Estimate) -> str:
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
