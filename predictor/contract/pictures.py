"""One picture as a caller asks for it, and the ranges a server accepts.

Knows the fields' meaning, not how they travel; what is None is left to the server's defaults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from predictor.contract.fields import EXACT, FEW_STEPS, Value
from predictor.contract.mix import read_mix
from predictor.errors import InvalidInput

MAX_SEED = 2**63 - 1
MAX_KEY_CHARS = 256
MAX_TIMEOUT = 3600.0
"""Seconds."""
PRIORITIES = (-3, 3)
"""The lowest and the highest; without one a request has 0."""
OF_A_REQUEST = ("height", "width", "timeout", "priority")
"""Fields that all pictures of a request must agree on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server accepts. Sizes in pixels, prompts in characters."""

    max_rows: int = 8
    max_steps: int = 100
    max_guidance: float = 30.0
    max_lora_scale: float = 2.0
    max_prompt_chars: int = 1000
    min_size: int = 8
    max_size: int = 1024
    size_multiple: int = 8
    solvers: tuple[str, ...] = ()
    """Empty: any, where somebody else checks it; so too of the next."""
    approximations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """One row of a request. Its attributes are the wire names, so that `PictureRequest(**row)` reads one."""

    prompt: str
    negative_prompt: str = ""
    seed: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    lora_scale: float = 1.0
    height: int | None = None
    width: int | None = None
    lora: str = ""
    solver: str | None = None
    approximation: str | None = None
    sticky_key: str | None = None
    timeout: float | None = None
    priority: int | None = None

    @property
    def approximated(self) -> bool:
        """Whether it may be another picture than the exact one."""
        return self.approximation not in (None, EXACT)


def check_pictures(rows: Sequence[Mapping[str, Value]], limits: Limits) -> list[PictureRequest]:
    """Turn rows of decoded values into picture requests that lie within the limits.

    Raises:
        InvalidInput: names the first field that is out of range, and the range.
    """
    pictures = []
    for row in rows:
        values: dict[str, Any] = dict(row)
        picture = PictureRequest(**values)
        _check(picture, limits)
        pictures.append(picture)
    for name in OF_A_REQUEST:
        if len({getattr(picture, name) for picture in pictures}) > 1:
            raise InvalidInput(name, "must be the same for all pictures of one request")
    return pictures


def _check(picture: PictureRequest, limits: Limits) -> None:
    if not picture.prompt.strip():
        raise InvalidInput("prompt", "must not be empty")
    for name in ("prompt", "negative_prompt"):
        length = len(getattr(picture, name))
        if length > limits.max_prompt_chars:
            raise InvalidInput(name, f"must have at most {limits.max_prompt_chars} characters, has {length}")
    if len(picture.sticky_key or "") > MAX_KEY_CHARS:
        raise InvalidInput("sticky_key", f"must have at most {MAX_KEY_CHARS} characters")
    if picture.lora:
        read_mix(picture.lora, limits.max_lora_scale)
    _check_range("seed", picture.seed, 0, MAX_SEED)
    _check_range("num_inference_steps", picture.num_inference_steps, 1, limits.max_steps)
    _check_range("guidance_scale", picture.guidance_scale, 0, limits.max_guidance)
    _check_range("lora_scale", picture.lora_scale, 0, limits.max_lora_scale)
    for name in ("height", "width"):
        size = getattr(picture, name)
        _check_range(name, size, limits.min_size, limits.max_size)
        if size is not None and size % limits.size_multiple:
            raise InvalidInput(name, f"must be a multiple of {limits.size_multiple}, got {size}")
    if picture.timeout is not None and not 0 < picture.timeout <= MAX_TIMEOUT:
        raise InvalidInput(
            "timeout", f"must be more than 0 and at most {MAX_TIMEOUT:g} seconds, got {picture.timeout}"
        )
    _check_range("priority", picture.priority, *PRIORITIES)
    if picture.solver is not None and limits.solvers and picture.solver not in limits.solvers:
        raise InvalidInput("solver", f"must be one of {', '.join(limits.solvers)}")
    chosen = picture.approximation
    if chosen is not None and limits.approximations and chosen not in limits.approximations:
        raise InvalidInput("approximation", f"must be one of {', '.join(limits.approximations)}")
    if chosen == FEW_STEPS and (picture.num_inference_steps, picture.solver) != (None, None):
        raise InvalidInput(
            "approximation", f"{FEW_STEPS} chooses num_inference_steps and solver: leave both out with it"
        )


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    # "not (low <= value <= high)" also refuses NaN
    if value is not None and not low <= value <= high:
        raise InvalidInput(name, f"must be from {low:g} to {high}, got {value}")
