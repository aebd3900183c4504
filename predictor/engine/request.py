"""A request as the engine keeps it: rows that came together, what they ask for, and the reply they wait for.

It doesn't know queues, clocks, or what a picture is drawn with.
"""

import asyncio
import math
from dataclasses import dataclass, field

import numpy as np

from predictor.diffusion.row import Row
from predictor.engine.course import Course
from predictor.engine.terms import Terms


@dataclass(eq=False, slots=True)
class Request:
    """`reply` is done once all pictures are there, or the request failed or was cancelled.

    `arrived` is in seconds, on the engine's clock. `courses` are told what becomes of the rows, in their
    order.
    """

    rows: tuple[Row, ...]
    terms: Terms
    arrived: float
    reply: asyncio.Future[np.ndarray]
    courses: tuple[Course, ...] = ()
    pictures: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.courses = self.courses or tuple(Course(self.arrived) for _ in self.rows)

    @property
    def deadline(self) -> float:
        """When its pictures are of no use any more, on the same clock."""
        return math.inf if self.terms.timeout is None else self.arrived + self.terms.timeout

    def deliver(self, index: int, picture: np.ndarray) -> None:
        """Takes the picture of one row, uint8 [H, W, 3]; the last one completes the reply, uint8 [N, H, W,
        3].
        """
        self.pictures[index] = picture
        if len(self.pictures) == len(self.rows) and not self.reply.done():
            self.reply.set_result(np.stack([self.pictures[place] for place in range(len(self.rows))]))

    def fail(self, error: Exception) -> None:
        """Ends the request with an error, unless it has ended."""
        if not self.reply.done():
            self.reply.set_exception(error)


@dataclass(frozen=True, slots=True)
class Ticket:
    """One row of a request."""

    request: Request
    index: int

    @property
    def row(self) -> Row:
        """What is to be drawn."""
        return self.request.rows[self.index]

    @property
    def course(self) -> Course:
        """What has become of it."""
        return self.request.courses[self.index]

    @property
    def line(self) -> tuple[str, int]:
        """The tenant and priority among which rows keep the order they came in."""
        return self.request.terms.tenant, self.request.terms.priority

    @property
    def wanted(self) -> bool:
        """Whether its request still waits for a reply."""
        return not self.request.reply.done()
