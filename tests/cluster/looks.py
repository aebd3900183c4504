"""Which version drew a picture, and what it shows: told from the pixels alone.

A version's own pictures of the same questions are the measure; the judge of `make eval` says that those
show what they should, in the right look.
"""

from collections.abc import Sequence

import numpy as np

from tests.cluster.load import burst
from tests.cluster.pictures import Ingress, Question
from weights.eval.judge import Judge, Verdict

STABLE, CANARY = "notoemoji@1", "openmoji@1"

SAME = 2.0
"""Two pictures of one version and seed differ by no more than this, of 255 in the mean, in any batch."""


def verdict(judge: Judge, pixels: np.ndarray) -> Verdict:
    """What the judge sees in a picture, uint8 [H, W, 3]."""
    (seen,) = judge.judge(pixels[None])
    return seen


class References:
    """The pictures of some questions by exact versions, fetched once."""

    def __init__(self, ingress: Ingress, questions: Sequence[Question]) -> None:
        self.pictures: dict[tuple[str, int, str], np.ndarray] = {}
        self.png: dict[tuple[str, int, str], bytes] = {}
        for version in (STABLE, CANARY):
            asked = [question.of(version) for question in questions]
            for outcome in burst(ingress, asked, len(asked), 2):
                assert outcome.reply is not None, outcome.failure
                assert outcome.reply.lora == version
                key = (outcome.question.prompt, outcome.question.seed, version)
                self.pictures[key] = outcome.reply.pixels
                self.png[key] = outcome.reply.png

    def drawn_by(self, question: Question, pixels: np.ndarray) -> str | None:
        """The version whose picture of this question it is; None if it is nobody's, or more than one's."""
        near = [
            version
            for version in (STABLE, CANARY)
            if difference(pixels, self.pictures[question.prompt, question.seed, version]) <= SAME
        ]
        return near[0] if len(near) == 1 else None


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two pictures of one size, 0 to 255."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())
