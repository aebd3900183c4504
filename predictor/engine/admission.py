"""Who joins the batch, decided anew at every step: user limits first, then throughput, then mean latency.

A call takes a·B + b, so another row gives more pictures a second as long as b is worth sharing (the
marginal-gain cap). Beyond it a row joins only where that lowers the mean latency: a short one among long
ones. Pure functions of what is known; time is a number given to them. It doesn't know queues, tenants or
tensors.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from predictor.engine.cost_model import CostModel, Line, Shape

MIN_GAIN = 0.005
"""Throughput that a row must add, as a share of what there is, to join for the sake of throughput."""


@dataclass(frozen=True, slots=True)
class Place:
    """A row as the batch sees it; times in seconds on one clock.

    `width` is its UNet rows (two with guidance), `steps` are those it still has to take. `deadline` is when
    its picture is of no use any more, maybe infinite.
    """

    shape: Shape
    width: int
    steps: int
    arrived: float
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What the user allows: rows in the batch, and seconds from a row's arrival to its picture.

    The batch doesn't grow at the price of a picture's coming later than `max_latency`. One that is late
    already, from waiting, doesn't keep others out. `max_load` is what the device's memory holds in one call,
    in UNet rows times pixels.
    """

    max_batch_size: int
    max_latency: float = math.inf
    max_load: float = math.inf

    def within(self, max_load: float | None) -> "BatchLimits":
        """The same with the memory's limit of now; None: there is none."""
        return replace(self, max_load=math.inf if max_load is None else max_load)


@dataclass(frozen=True, slots=True)
class Costs:
    """What is known of the two kinds of calls: steps by UNet rows, decoding by pictures."""

    step: CostModel
    decode: CostModel


class Verdict(Enum):
    """What becomes of the row whose turn it is."""

    JOIN = auto()
    WAIT = auto()
    """Nobody else joins either: the batch is as large as it pays."""
    LET_PASS = auto()
    """It can't keep its deadline among so many, but others may join."""
    HOPELESS = auto()
    """It couldn't keep its deadline even alone."""


def judge(row: Place, batch: Sequence[Place], costs: Costs, limits: BatchLimits, now: float) -> Verdict:
    """Whether a waiting row joins; `batch` are the rows that take part in the next steps, those of the shape
    whose turn it is in front.
    """
    if _done(row, [row], costs, now) > row.deadline:
        return Verdict.HOPELESS
    if not batch:
        return Verdict.JOIN
    if len(batch) >= limits.max_batch_size:
        return Verdict.WAIT
    grown = [*batch, row]
    if _width(batch, row.shape) and _width(grown, row.shape) * math.prod(row.shape) > limits.max_load:
        return Verdict.WAIT
    if any(_spoils(other, batch, grown, costs, limits, now) for other in batch):
        return Verdict.WAIT
    if _done(row, grown, costs, now) > row.deadline:
        return Verdict.LET_PASS
    if _pays(row, batch, costs) or _shortens(row, batch, costs):
        return Verdict.JOIN
    return Verdict.WAIT


def round_seconds(batch: Iterable[Place], costs: Costs) -> float:
    """How long it takes until every row is one step further: one call for each shape."""
    widths: dict[Shape, int] = {}
    for place in batch:
        widths[place.shape] = widths.get(place.shape, 0) + place.width
    return sum(costs.step.seconds(shape, width) for shape, width in widths.items())


def row_seconds(row: Place, costs: Costs, max_batch_size: int) -> float:
    """The time of the device that a row takes when the batch is as full as it may be and pays."""
    step, decode = costs.step.line(row.shape), costs.decode.line(row.shape)
    rows = min(max_batch_size, _paying_rows(step, row.width))
    return (row.steps * step(rows * row.width) + decode(rows)) / rows


def _done(row: Place, batch: Sequence[Place], costs: Costs, now: float) -> float:
    """When a row of this batch has its picture at the latest, if nobody else joins.

    As if all stayed to its end, and each that ends before it were decoded alone. The shapes take turns in the
    batch's order, so those behind the row's own have one turn less before it ends: a row that can keep its
    deadline is not taken for late between two turns.
    """
    shapes = list(dict.fromkeys(place.shape for place in batch))
    turns = {shape: row.steps - (place > shapes.index(row.shape)) for place, shape in enumerate(shapes)}
    stepping = sum(turns[shape] * costs.step.seconds(shape, _width(batch, shape)) for shape in shapes)
    decoding = sum(
        costs.decode.seconds(other.shape, 1) for other in batch if other.steps <= turns[other.shape]
    )
    return now + stepping + decoding


def _spoils(
    other: Place,
    batch: Sequence[Place],
    grown: Sequence[Place],
    costs: Costs,
    limits: BatchLimits,
    now: float,
) -> bool:
    """Whether growth costs a row of the batch its deadline or the latency that it would have kept."""
    before, after = _done(other, batch, costs, now), _done(other, grown, costs, now)
    bounds = other.deadline, other.arrived + limits.max_latency
    return any(before <= bound < after for bound in bounds)


def _pays(row: Place, batch: Sequence[Place], costs: Costs) -> bool:
    """Whether the row adds throughput. Each shape is a batch of its own: its first row always does."""
    width = _width(batch, row.shape)
    return width < _paying_rows(costs.step.line(row.shape), row.width) * row.width


def _width(batch: Iterable[Place], shape: Shape) -> int:
    """The UNet rows of one shape."""
    return sum(place.width for place in batch if place.shape == shape)


def _paying_rows(line: Line, width: int) -> int:
    """The marginal-gain cap: how large a batch of rows of this width grows for the sake of throughput.

    With W UNet rows in it, w more raise the rows a second by w·b / (W·(a·(W + w) + b)); the last row to join
    is the one that finds this at MIN_GAIN or above, at the latest. Without an a there is no end.
    """
    a, b, w = line.a, line.b, width
    if not a:
        return sys.maxsize
    half = (a * w + b) / 2
    most = (math.sqrt(half**2 + a * w * b / MIN_GAIN) - half) / a
    return int(most / w) + 1


def _shortens(row: Place, batch: Sequence[Place], costs: Costs) -> bool:
    """Whether all wait less in sum if the row joins now and not when the first of the batch leaves."""
    alone = round_seconds(batch, costs)
    slower = round_seconds([*batch, row], costs) - alone
    earlier = min(place.steps for place in batch) * alone - row.steps * slower
    later = sum(slower * min(row.steps, place.steps) for place in batch)
    return earlier > later
