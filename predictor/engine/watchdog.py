"""Tells a computation that hangs from one that takes long, by an allowance made of what it should take.

It doesn't know what is computed. One thread computes, any may ask.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

SLACK_S = 4.0
"""A machine may stand still for a moment. With it a hung step is noticed within five seconds."""

FACTOR = 10.0
"""How many times longer than expected a slow call may take, where that is more than the slack."""


class Watchdog:
    """`clock` gives seconds; `longest` is the allowance of what nobody has seen before, and of all."""

    def __init__(self, clock: Callable[[], float], longest: float) -> None:
        self._clock = clock
        self._longest = longest
        self._until: float | None = None

    @contextmanager
    def watch(self, expected: float | None = None) -> Iterator[None]:
        """Around one computation; `expected` in seconds, None where it is the first of its kind."""
        self._until = self._clock() + self.allowance(expected)
        try:
            yield
        finally:
            self._until = None

    def allowance(self, expected: float | None) -> float:
        """Seconds after which a computation counts as hung."""
        if expected is None:
            return self._longest
        return min(self._longest, max(expected + SLACK_S, FACTOR * expected))

    @property
    def hung(self) -> bool:
        """Whether the computation under way has used up its allowance."""
        until = self._until
        return until is not None and self._clock() > until
