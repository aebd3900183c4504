"""A request on its way through the transformer: what the predictor is asked for, and what it drew.

It knows neither how a request is read nor how it is answered.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import orjson
from kserve import InferRequest, InferResponse
from numpy.typing import NDArray

from predictor.contract import EXACTLY, Label, version_label
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
    """What the predictor drew for a job: uint8 [N, H, W, 3], by which seeds and LoRAs, and how nearly."""

    job: Job
    pixels: NDArray[np.uint8]
    seeds: Sequence[int]
    loras: Sequence[str]
    approximations: Sequence[Label]
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
        loras = [_text(value) for value in lora.as_numpy()]
        label = response.get_output_by_name("approximation")  # there where one was asked for
        labels = [EXACTLY] * count if label is None else list(map(_read_label, label.as_numpy()))
    except (AttributeError, ValueError, TypeError, OverflowError) as error:
        raise UpstreamError("the predictor's answer cannot be read") from error
    right_shape = pixels.ndim == 4 and pixels.shape[0] == count and pixels.shape[3] == 3 and pixels.size > 0
    if pixels.dtype != np.uint8 or not right_shape or {len(seeds), len(loras), len(labels)} != {count}:
        raise UpstreamError("the predictor's answer is not what was asked for")
    return Drawing(job, pixels, seeds, loras, labels, response.model_version or "", time.monotonic())


def _read_label(text: bytes | str) -> Label:
    label = orjson.loads(text)
    if not isinstance(label, dict) or not isinstance(label.get("name"), str):
        raise ValueError("no label")
    return label


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _label(lora: str) -> str:
    try:
        return version_label(lora)
    except InvalidInput:  # a predictor that is not ours
        return lora
