"""What has become of one row of a request so far, and when: what the engine tells of its work.

It doesn't know who wants to know, nor what is drawn.
"""

from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Course:
    """Times are seconds on the engine's clock; None where the row has not come so far.

    `shared` says that the row is computed for somebody else as well, who was there first; `encoded`, that its
    prompts had to be encoded, as no earlier row had the same.
    """

    arrived: float | None = None
    """The request came."""
    admitted: float | None = None
    """It left the queue, or joined an equal row that had."""
    begun: float | None = None
    """All was there for its first step."""
    stepped: float | None = None
    """Its latest step ended."""
    drawn: float | None = None
    """Its picture was there."""
    steps: int = 0
    """Steps it has taken part in."""
    mates: int = 0
    """Rows in these steps, all steps together, the row itself among them."""
    shared: bool = False
    encoded: bool = False

    def step(self, rows: int, now: float) -> None:
        """A step with so many rows has ended."""
        self.stepped = now
        self.steps += 1
        self.mates += rows
