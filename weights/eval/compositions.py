"""The sixty compositions that are drawn and judged by eye; none of their pictures is in the training set."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "data" / "compositions.csv"


@dataclass(frozen=True, slots=True)
class Composition:
    """A prompt, the glyph it is about (CLDR name) and the colour or feature it adds."""

    prompt: str
    glyph: str
    modifier: str


def load_compositions() -> list[Composition]:
    """The rows of `compositions.csv`."""
    with FILE.open(encoding="utf-8", newline="") as lines:
        return [Composition(**row) for row in csv.DictReader(lines)]
