"""How long a call takes: t(B) = a·B + b seconds for B rows, learned from the calls themselves, per shape.

Outliers don't count: of each B the median of the latest calls is taken, and the first call of a B, which may
compile, only until there is a second. It doesn't know clocks, nor what is called.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median

Shape = tuple[int, int]
"""Height and width in pixels."""

LATEST = 9
"""Calls of one B whose median counts."""

ENOUGH = 5
"""Calls of one B that tell how it differs from another. With fewer a slow moment would look like a rule."""

STALE = 500
"""Calls of a shape after which an older B is no longer believed, so that a slow moment is forgotten."""

SHAPES = 64
"""Shapes that are remembered, the latest."""


@dataclass(frozen=True, slots=True)
class Line:
    """a and b of t(B) = a·B + b: seconds a row, and seconds a call."""

    a: float
    b: float

    def __call__(self, rows: float) -> float:
        """Seconds of a call with so many rows."""
        return self.a * rows + self.b


@dataclass(slots=True)
class _Calls:
    """The calls of one shape with one number of rows."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    first: bool = True
    number: int = 0  # of the shape's calls when the latest came

    def add(self, seconds: float, number: int) -> None:
        if self.first and self.seconds:
            self.first = False
            self.seconds.clear()
        self.seconds.append(seconds)
        self.number = number


class CostModel:
    """One kind of call: a denoising step by UNet rows, or decoding by pictures."""

    def __init__(self) -> None:
        self._shapes: OrderedDict[Shape, dict[int, _Calls]] = OrderedDict()
        self._counts: dict[Shape, int] = {}
        self._lines: dict[Shape, Line] = {}
        self._doubted: set[Shape] = set()

    def doubt(self, shape: Shape) -> None:
        """What is known of a shape may be of a slow moment: the next call tells how much of it still holds.

        All is then scaled as that call's time is to what it should have been. A call with a number of rows
        that was never seen tells nothing, since it may compile.
        """
        self._doubted.add(shape)

    def observe(self, shape: Shape, rows: int, seconds: float) -> None:
        """Learns from one call."""
        if shape in self._doubted and self.has_seen(shape, rows):
            self._doubted.discard(shape)
            self._scale(shape, seconds / self.seconds(shape, rows))
        calls = self._shapes.setdefault(shape, {})
        self._shapes.move_to_end(shape)
        number = self._counts[shape] = self._counts.get(shape, 0) + 1
        calls.setdefault(rows, _Calls()).add(seconds, number)
        self._lines[shape] = _fit(
            {
                other: (median(known.seconds), len(known.seconds))
                for other, known in calls.items()
                if number - known.number < STALE
            }
        )
        if len(self._shapes) > SHAPES:
            oldest, _ = self._shapes.popitem(last=False)
            del self._counts[oldest], self._lines[oldest]
            self._doubted.discard(oldest)

    def has_seen(self, shape: Shape, rows: int) -> bool:
        """Whether such a call was ever made: a first one may take much longer."""
        return rows in self._shapes.get(shape, ())

    def line(self, shape: Shape) -> Line:
        """The a and b of a shape; one not seen yet costs what the most like it does, pixel by pixel.

        Zeros where nothing was seen at all.
        """
        if shape in self._lines:
            return self._lines[shape]
        if not self._lines:
            return Line(0.0, 0.0)
        pixels = shape[0] * shape[1]
        like = min(self._lines, key=lambda other: abs(other[0] * other[1] - pixels))
        scale, known = pixels / (like[0] * like[1]), self._lines[like]
        return Line(known.a * scale, known.b * scale)

    def seconds(self, shape: Shape, rows: int) -> float:
        """What a call will take; 0 without rows."""
        return self.line(shape)(rows) if rows else 0.0

    def _scale(self, shape: Shape, factor: float) -> None:
        for known in self._shapes[shape].values():
            known.seconds = deque((factor * seconds for seconds in known.seconds), maxlen=LATEST)

    @property
    def lines(self) -> dict[Shape, Line]:
        """The a and b of all shapes seen."""
        return dict(self._lines)


def _fit(points: dict[int, tuple[float, int]]) -> Line:
    """Least squares over medians and counts by B, weighted by the counts; neither a nor b is negative.

    One B alone does not tell a from b: they are taken for equal until another was tried often enough.
    """
    known = {rows: point for rows, point in points.items() if point[1] >= ENOUGH}
    if len(known) < 2:
        rows, (seconds, _) = max(points.items(), key=lambda pair: pair[1][1])
        return Line(seconds / (rows + 1), seconds / (rows + 1))
    points = known
    total = sum(count for _, count in points.values())
    mean_rows = sum(rows * count for rows, (_, count) in points.items()) / total
    mean = sum(seconds * count for seconds, count in points.values()) / total
    spread = sum(count * (rows - mean_rows) ** 2 for rows, (_, count) in points.items())
    slope = sum(count * (rows - mean_rows) * (sec - mean) for rows, (sec, count) in points.items()) / spread
    if slope <= 0:
        return Line(0.0, mean)
    if slope * mean_rows >= mean:  # through the origin
        square = sum(count * rows * rows for rows, (_, count) in points.items())
        return Line(sum(count * rows * sec for rows, (sec, count) in points.items()) / square, 0.0)
    return Line(slope, mean - slope * mean_rows)
