"""The results as one SVG: throughput, and latency and goodput by load, of every side. It needs no library."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.estimates import Estimate, pooled
from benchmarks.results import Results

COLOURS = {"predictor": "#4269d0", "engine": "#97bbf5", "bentoml": "#efb118", "litserve": "#ff725c"}
OTHER = "#9c9c9c"
WIDTH, ROW, LABEL, NUMBERS = 760, 18, 150, 110


# Scenario, metric, percentile, and how a panel of it is called.
PANELS = (
    ("throughput", "throughput", 0.5, "throughput"),
    ("latency", "latency", 0.5, "p50"),
    ("latency", "latency", 0.99, "p99"),
    ("latency", "short_latency", 0.99, "p99 of the short jobs"),
    ("latency", "goodput", 0.5, "goodput"),
)


def plot(results: Results) -> str:
    """The picture: one panel for each case of throughput and of latency under load, a bar for each side."""
    parts: list[str] = []
    y = 10
    for scenario, metric, share, name in PANELS:
        rows = [row for row in results.rows if (row.scenario, row.metric) == (scenario, metric)]
        for case, unit in dict.fromkeys((row.case, row.unit) for row in rows):
            if scenario == "latency" and not case.endswith("load"):
                continue
            sides = dict.fromkeys(row.side for row in rows if row.case == case)
            runs = {side: results.runs(scenario, case, side, metric).values() for side in sides}
            bars = [(side, pooled(list(values), share)) for side, values in runs.items()]
            parts += _panel(f"{case}: {name} ({unit})", bars, y)
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
            f'fill="{COLOURS.get(side, OTHER)}"/>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}" stroke="black"/>',
            f'<text x="{high + 6:.1f}" y="{middle + 4:g}">{bar.value:.3g}</text>',
        ]
    return parts
