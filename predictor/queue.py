"""The line of rows waiting for a place in the batch: bounded, first come first served, a request in pieces
if need be.

It doesn't know time, threads, or what a picture is drawn with.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from predictor.row import Row


@dataclass(eq=False, slots=True)
class Request:
    """Rows that came together; `reply` is done once all pictures are there, or the request failed or was
    cancelled.
    """

    rows: tuple[Row, ...]
    reply: asyncio.Future[np.ndarray]
    pictures: dict[int, np.ndarray] = field(default_factory=dict)

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


class RowQueue:
    """At most `max_rows` tickets, in the order they came."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self._tickets: deque[Ticket] = deque()

    def __len__(self) -> int:
        return len(self._tickets)

    def push(self, request: Request) -> bool:
        """Appends all rows of the request, or none and says False if they don't fit."""
        if len(self) + len(request.rows) > self.max_rows:
            return False
        self._tickets.extend(Ticket(request, index) for index in range(len(request.rows)))
        return True

    def take(self, count: int) -> list[Ticket]:
        """Removes and gives the first `count` tickets, fewer if there are fewer."""
        return [self._tickets.popleft() for _ in range(min(count, len(self)))]

    def discard(self, request: Request) -> None:
        """Removes what still waits of a request."""
        self._tickets = deque(ticket for ticket in self._tickets if ticket.request is not request)

    def calls(self) -> int:
        """The denoising steps all waiting rows ask for."""
        return sum(ticket.row.steps for ticket in self._tickets)
