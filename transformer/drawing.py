"""A request on its way through the transformer: what the predictor is asked for, and what it drew.

It knows neither how a request is read nor how it is answered.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from kserve import InferRequest, InferResponse
from numpy.typing import NDArray

from predictor.contract import version_label
from predictor.errors import InvalidInput, UpstreamError
from transformer.request import Wish
from transformer.studio import English


@dataclass(frozen=True, slots=True)
class Job:
    """One request on its way to the predictor."""

    wishes: Sequence[Wish]
    english: Sequence[English]
    request: InferRequest
    """What the predictor is asked for."""
    timeout: float | None
    """Seconds that are left for it."""
    reply: Literal["v1", "v2", "picture"]
    outputs: tuple[str, ...]
    """The outputs of a v2 reply."""
    base64: bool
    """Whether the pictures in a v2 reply are text, as JSON needs them."""
    arrived: float
    """When, by `time.monotonic`; `translated` is when it was ready to be sent to the predictor."""
    translated: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """What the predictor drew for a job: uint8 [N, H, W, 3], and by which seeds and LoRAs."""

    job: Job
    pixels: NDArray[np.uint8]
    seeds: Sequence[int]
    loras: Sequence[str]
    model_version: str
    drawn: float
    """When the pixels were here, by `time.monotonic`."""

    @property
    def labels(self) -> list[str]:
        """What each picture is counted by; the text of a predictor that is not ours as it is."""
        return [_label(lora) for lora in self.loras]


def read_drawing(job: Job, response: InferResponse) -> Drawing:
    """Take the pixels out of the predictor's answer.

    Raises:
        UpstreamError: the answer is not what the contract says.
    """
    count = len(job.wishes)
    try:
        image, seed, lora = (response.get_output_by_name(name) for name in ("image", "seed", "lora"))
        pixels = image.as_numpy()
        seeds = [int(value) for value in seed.as_numpy()]
        loras = [value.decode() if isinstance(value, bytes) else str(value) for value in lora.as_numpy()]
    except (AttributeError, ValueError, TypeError, OverflowError) as error:
        raise UpstreamError("the predictor's answer cannot be read") from error
    right_shape = pixels.ndim == 4 and pixels.shape[0] == count and pixels.shape[3] == 3 and pixels.size > 0
    if pixels.dtype != np.uint8 or not right_shape or len(seeds) != count or len(loras) != count:
        raise UpstreamError("the predictor's answer is not what was asked for")
    return Drawing(job, pixels, seeds, loras, response.model_version or "", time.monotonic())


def _label(lora: str) -> str:
    try:
        return version_label(lora)
    except InvalidInput:  # a predictor that is not ours
        return lora
