"""One picture under way, and all who wait for it: equal rows share one computation.

It doesn't know batches, costs, or how it is drawn.
"""

import math
from dataclasses import dataclass

import numpy as np

from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample
from predictor.engine.admission import Place
from predictor.engine.request import Ticket


@dataclass(eq=False, slots=True)
class Job:
    """A row that has left the queue. `sample` is there once it has begun."""

    row: Row
    tickets: list[Ticket]
    sample: Sample | None = None

    def admit(self, now: float) -> None:
        """It has left the queue; the first of those who wait for it is the one it is drawn for."""
        for ticket in self.tickets:
            ticket.course.admitted = now
            ticket.course.shared = ticket is not self.tickets[0]

    def begin(self, sample: Sample, now: float) -> None:
        """It can be stepped."""
        self.sample = sample
        for ticket in self.tickets:
            ticket.course.begun = now

    def join(self, ticket: Ticket, now: float) -> None:
        """Somebody else wants the same."""
        self.tickets.append(ticket)
        ticket.course.shared = True
        ticket.course.admitted = now
        ticket.course.begun = now if self.sample is not None else None

    def step(self, rows: int, now: float) -> None:
        """A step with so many rows has ended."""
        for ticket in self.tickets:
            ticket.course.step(rows, now)

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return any(ticket.wanted for ticket in self.tickets)

    @property
    def begun(self) -> Sample:
        """Its sample, once it has begun."""
        assert self.sample is not None
        return self.sample

    @property
    def place(self) -> Place:
        """What admission needs to know of it: of those who wait, the most impatient one counts."""
        waiting = [ticket.request for ticket in self.tickets if ticket.wanted]
        call, calls = (
            (0, self.row.steps) if self.sample is None else (self.sample.call, self.sample.table.calls)
        )
        return place(
            self.row,
            calls - call,
            min((request.arrived for request in waiting), default=math.inf),
            min((request.deadline for request in waiting), default=math.inf),
            call,
        )

    def deliver(self, picture: np.ndarray, now: float) -> None:
        """Gives everybody the picture, uint8 [H, W, 3]."""
        for ticket in self.tickets:
            ticket.course.drawn = now
            ticket.request.deliver(ticket.index, picture)

    def fail(self, error: Exception) -> None:
        """Ends the requests of everybody with an error."""
        for ticket in self.tickets:
            ticket.request.fail(error)


def place(row: Row, steps: int, arrived: float, deadline: float, taken: int = 0) -> Place:
    """A row with so many steps left, and so many taken, as admission sees it."""
    every = row.inner_every
    return Place((row.height, row.width), unet_rows(row), steps, arrived, deadline, every, -taken % every)


def unet_rows(row: Row) -> int:
    """What a row costs in a step: two UNet rows with guidance, one without."""
    return 2 if row.guidance > 1 else 1
