"""What is asked for: mixes of jobs, made anew from a seed, so that every side is asked the same.

It doesn't know servers or when a job arrives.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

PROMPTS = tuple(
    f"a {colour} {thing}"
    for colour, thing in itertools.product(
        ("red", "blue", "green", "yellow", "happy", "sad", "small", "old"),
        ("apple", "car", "cat", "house", "rocket", "robot", "flower", "star", "fish", "tree", "hat", "ball"),
    )
)
GUIDANCE = (1.0, 2.0, 7.5)

Card = TypeVar("Card")


@dataclass(frozen=True, slots=True)
class Job:
    """One picture; `lora` is an exact version, or None for the plain base; `size` is in pixels, None is the
    model's own, and only the predictor is asked for another.
    """

    prompt: str
    seed: int
    steps: int
    guidance: float
    lora: str | None
    size: int | None = None

    @property
    def unet_rows(self) -> int:
        """Rows of the UNet it takes in all: guided steps take two."""
        return self.steps * (2 if self.guidance > 1 else 1)


@dataclass(frozen=True, slots=True)
class Mix:
    """Kinds of jobs that come equally often: each of the steps with each guidance, and each LoRA."""

    name: str
    loras: tuple[str | None, ...]
    steps: tuple[int, ...]
    guidance: tuple[float, ...]

    def jobs(self, count: int, seed: int) -> list[Job]:
        """So many jobs; the same for the same seed. No two are identical, so that none can be spared.

        They are dealt like cards, so that a few of them take as long in the mean as many.
        """
        source = random.Random(f"{self.name} {seed}")
        dealt = zip(_dealt(self.classes(), source), _dealt(self.loras, source), range(count), strict=False)
        return [
            Job(source.choice(PROMPTS), seed * 1_000_000 + number, steps, guidance, lora)
            for (steps, guidance), lora, number in dealt
        ]

    def classes(self) -> list[tuple[int, float]]:
        """The kinds of jobs that take unlike time: steps and guidance."""
        return list(itertools.product(self.steps, self.guidance))


def mixes(loras: Sequence[str], steps: Sequence[int]) -> dict[str, Mix]:
    """Homogeneous, mixed, and short jobs among long ones, by name.

    Args:
        loras: exact versions; the first one is that of the homogeneous mix.
        steps: of the mixed one, ascending; short jobs take the first number, long ones the last, and
            homogeneous ones one between.
    """
    middle = steps[len(steps) // 2]
    made = (
        Mix("homogeneous", (loras[0],), (middle,), GUIDANCE[1:2]),
        Mix("mixed", tuple(loras), tuple(steps), GUIDANCE),
        # One job in four is short: enough of them to tell their latency, too few to be the load.
        Mix("short among long", tuple(loras), (steps[0], *[steps[-1]] * 3), GUIDANCE[1:2]),
    )
    return {mix.name: mix for mix in made}


def _dealt(cards: Sequence[Card], source: random.Random) -> Iterator[Card]:
    """All cards in a random order, then all in another one, without an end."""
    while True:
        yield from source.sample(cards, len(cards))
