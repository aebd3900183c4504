"""How a request for pictures ended, for all who count: metrics, statistics, traces.

It doesn't know what they make of it, nor how a picture is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from predictor.engine.course import Course


class Ending(Enum):
    """How a request ended."""

    DRAWN = auto()
    FAILED = auto()
    """The request was right and got no pictures: an error of the server, or too late."""
    REFUSED = auto()
    """It could not be taken, or nobody waits for it any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request of N pictures.

    `model` is the name that was asked for; `loras` are what drew each picture, exact versions or mixes of
    such, and `courses` what became of it; `ended` is when, in seconds on the clock of the courses.
    """

    model: str
    loras: Sequence[str]
    courses: Sequence[Course]
    ending: Ending
    ended: float
