"""Who joins the batch, decided anew at every step: user limits first, then throughput, then mean latency.

A call takes a·B + b, so another row gives more pictures a second as long as b is worth sharing (the
marginal-gain cap). Beyond it a row joins only where that lowers the mean latency: a short one among long
ones. Pure functions of what is known; time is a number given to them. It doesn't know queues, tenants or
tensors.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from predictor.engine.cost_model import CostModel, Line, Shape

MIN_GAIN = 0.005
"""Throughput that a row must add, as a share of what there is, to join for the sake of throughput."""


@dataclass(frozen=True, slots=True)
class Place:
    """A row as the batch sees it; times in seconds on one clock.

    `width` is its UNet rows (two with guidance), `steps` are those it still has to take. `deadline` is when
    its picture is of no use any more, maybe infinite. After `next_inner` steps, and then at every
    `inner_every`th, it computes the whole UNet, else its outer layers alone.
    """

    shape: Shape
    width: int
    steps: int
    arrived: float
    deadline: float = math.inf
    inner_every: int = 1
    next_inner: int = 0


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
    """What is known of the kinds of calls: steps by UNet rows, those of the outer layers alone apart, and
    decoding by pictures.
    """

    step: CostModel
    decode: CostModel
    outer: CostModel = field(default_factory=CostModel)

    def stepping(self, rows: Sequence[Place], turns: int, copies: int = 1) -> float:
        """Seconds of so many turns of rows of one shape, and of copies of them.

        At each turn those that compute the whole UNet share one call, the others another. Of copies nobody
        knows whose turn is which: either call is counted for as many turns as may need it at most.
        """
        line, width = self.step.line(rows[0].shape), copies * sum(row.width for row in rows)
        if all(row.inner_every == 1 for row in rows):
            return turns * line(width)
        # before their first call nothing is known of the outer layers but that they take less
        outer = self.outer.line(rows[0].shape) if self.outer.lines else line
        whole = [set(range(row.next_inner, turns, row.inner_every)) for row in rows]
        whole_width = copies * sum(row.width * len(own) for row, own in zip(rows, whole, strict=True))
        needing = copies * len(set.union(*whole))
        sparing = copies * (turns - len(set.intersection(*whole)))
        return (
            line.a * whole_width
            + line.b * min(turns, needing)
            + outer.a * (turns * width - whole_width)
            + outer.b * min(turns, sparing)
        )


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
    return sum(_mean_turn(rows, costs) for rows in _by_shape(batch).values())


def row_seconds(row: Place, costs: Costs, max_batch_size: int) -> float:
    """The time of the device that a row takes when the batch is as full as it may be and pays."""
    step, decode = costs.step.line(row.shape), costs.decode.line(row.shape)
    rows = min(max_batch_size, _paying_rows(step, row.width))
    return (costs.stepping([row], row.steps, rows) + decode(rows)) / rows


def _done(row: Place, batch: Sequence[Place], costs: Costs, now: float) -> float:
    """When a row of this batch has its picture at the latest, if nobody else joins.

    As if all stayed to its end, and each that ends before it were decoded alone. The shapes take turns in the
    batch's order, so those behind the row's own have one turn less before it ends: a row that can keep its
    deadline is not taken for late between two turns.
    """
    shapes = _by_shape(batch)
    order = list(shapes)
    turns = {shape: row.steps - (place > order.index(row.shape)) for place, shape in enumerate(order)}
    stepping = sum(costs.stepping(rows, turns[shape]) for shape, rows in shapes.items())
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


def _mean_turn(rows: Sequence[Place], costs: Costs) -> float:
    """Seconds of one turn of rows of one shape."""
    turns = max(row.steps for row in rows)
    return costs.stepping(rows, turns) / turns


def _by_shape(batch: Iterable[Place]) -> dict[Shape, list[Place]]:
    """The rows of each shape, the shapes in the batch's order."""
    shapes: dict[Shape, list[Place]] = {}
    for place in batch:
        shapes.setdefault(place.shape, []).append(place)
    return shapes


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
