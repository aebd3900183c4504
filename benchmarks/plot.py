"""The results as one SVG: throughput of every side, and latency by load. Plain text, no plotting library."""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.estimates import Estimate, median
from benchmarks.results import Results

COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5")
WIDTH, ROW, LABEL, NUMBERS = 760, 18, 150, 110


def plot(results: Results) -> str:
    """The picture: one panel for each case of throughput and of p99 under load, a bar for each side."""
    panels = [
        (f"{row.scenario}: {row.case}, {row.metric} ({row.unit})", row.scenario, row.case, row.metric)
        for row in results.rows
        if (row.metric == "throughput" and row.scenario == "throughput")
        or (re.search(r"load$", row.case) and row.metric in ("p50", "p99", "short_p99", "goodput"))
    ]
    parts: list[str] = []
    y = 10
    for title, scenario, case, metric in dict.fromkeys(panels):
        sides = dict.fromkeys(
            row.side
            for row in results.rows
            if (row.scenario, row.case, row.metric) == (scenario, case, metric)
        )
        bars = [(side, median(results.values(scenario, case, side, metric))) for side in sides]
        parts += _panel(title, bars, y)
        y += ROW * (len(bars) + 2)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{y}" fill="white"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _panel(title: str, bars: Sequence[tuple[str, Estimate]], top: int) -> list[str]:
    """A title and horizontal bars from zero, each with its interval as a line."""
    scale = (WIDTH - LABEL - NUMBERS) / (max(bar.high for _, bar in bars) or 1)
    parts = [f'<text x="10" y="{top + 12}" font-weight="bold">{escape(title)}</text>']
    for place, (side, bar) in enumerate(bars):
        y = top + ROW * (place + 1)
        middle = y + ROW / 2
        low, high = LABEL + bar.low * scale, LABEL + bar.high * scale
        parts += [
            f'<text x="{LABEL - 6}" y="{middle + 4:g}" text-anchor="end">{escape(side)}</text>',
            f'<rect x="{LABEL}" y="{y + 2}" width="{max(0.0, bar.value * scale):.1f}" height="{ROW - 4}" '
            f'fill="{COLOURS[place % len(COLOURS)]}"/>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}" stroke="black"/>',
            f'<text x="{high + 6:.1f}" y="{middle + 4:g}">{bar.value:.3g}</text>',
        ]
    return parts
