"""What a caller may ask of the transformer: the predictor's fields and those of language and picture.

Turns decoded rows into what each stage needs. It knows neither how a row travelled nor how it is served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import randbelow
from typing import Any, cast

import numpy as np
from grpc import StatusCode

from predictor.contract import INPUTS, Field, Limits, PictureRequest, Value, check_pictures
from predictor.errors import InvalidInput, ServingError
from transformer.pictures import DEFAULT_QUALITY, MEDIA_TYPES, Finish
from transformer.settings import Settings
from transformer.translation.language import LANGUAGE_CHOICES, LanguageChoice

LIMIT_MS = 3_600_000
SEEDS = 2**53
"""Seeds drawn here are below this, so that every JSON reader keeps them exact."""

OWN_INPUTS = (
    Field("language", "BYTES", (-1,), "of both prompts: auto (default), ko or en; en is never translated"),
    Field("format", "BYTES", (-1,), "png (default), webp or jpeg"),
    Field("output_format", "BYTES", (-1,), "the same as format"),
    Field("quality", "INT32", (-1,), "of JPEG and WebP, 1 to 100 (90); WebP at 100 is lossless"),
    Field("size", "INT32", (-1,), "longer side of the picture in pixels; scaled with a Lanczos filter"),
    Field("background", "BYTES", (-1,), "opaque (default) or transparent; not for jpeg"),
    Field("metadata", "BOOL", (-1,), "true: prompt, model and seed are written into the PNG"),
    Field("timeout_ms", "INT32", (-1,), "give up after so many milliseconds, counted for the whole request"),
)

FIELDS = tuple(
    Field(field.name, field.datatype, field.shape, "what to draw, in Korean or English")
    if field.name == "prompt"
    else field
    for field in INPUTS + OWN_INPUTS
)

_OWN_NAMES = frozenset(field.name for field in OWN_INPUTS)

# The predictor knows the ranges of its own fields; these keep them within their datatypes only.
_INT32_MAX = 2**31 - 1
_FP32_MAX = float(np.finfo(np.float32).max)


class NotAcceptable(ServingError):
    """The reply cannot have the media type that the Accept header asks for."""

    http_status = 406
    grpc_status = StatusCode.INVALID_ARGUMENT


@dataclass(frozen=True, slots=True)
class Wish:
    """One picture as it was asked for; `picture.prompt` may still be Korean."""

    picture: PictureRequest
    language: LanguageChoice
    finish: Finish
    timeout_ms: int | None

    @property
    def timeout(self) -> float | None:
        """Seconds the request may take, by either field."""
        given = [self.picture.timeout, self.timeout_ms and self.timeout_ms / 1000]
        return min((limit for limit in given if limit is not None), default=None)


def read_wishes(
    rows: Sequence[Mapping[str, Value]], settings: Settings, default_format: str = "png"
) -> list[Wish]:
    """Check decoded rows against the limits; rows without a seed get one, so that all can be drawn again.

    Raises:
        InvalidInput: names the first field that is out of range, and the range.
    """
    limits = Limits(
        max_rows=settings.max_rows,
        max_steps=_INT32_MAX,
        max_guidance=_FP32_MAX,
        max_lora_scale=_FP32_MAX,
        max_prompt_chars=settings.max_prompt_chars,
        min_size=1,
        max_size=_INT32_MAX,
        size_multiple=1,
    )
    pictures = check_pictures(
        [{"seed": randbelow(SEEDS)} | {name: row[name] for name in row.keys() - _OWN_NAMES} for row in rows],
        limits,
    )
    return [
        Wish(
            picture=picture,
            language=cast(LanguageChoice, _choice(row, "language", LANGUAGE_CHOICES, "auto")),
            finish=_read_finish(row, settings, default_format),
            timeout_ms=_within(row, "timeout_ms", 1, LIMIT_MS),
        )
        for picture, row in zip(pictures, rows, strict=True)
    ]


def accepted_formats(accept: str) -> tuple[str, ...]:
    """The picture formats that an Accept header takes, the preferred one first; none where it prefers JSON.

    Raises:
        NotAcceptable: it takes pictures only, in formats there are none of.
    """
    ranges = []
    for part in accept.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((text.removeprefix("q=") for text in parameters if text.startswith("q=")), "1")
        ranges.append((_quality(weight), media_type))
    wanted = [media_type for weight, media_type in sorted(ranges, key=lambda r: -r[0]) if weight > 0]
    formats: list[str] = []
    for media_type in wanted:
        if not media_type.startswith("image/") and not formats:
            return ()
        formats += [name for name, known in MEDIA_TYPES.items() if media_type in (known, "image/*")]
    if wanted and not formats:
        raise NotAcceptable(f"Accept: there are {', '.join(MEDIA_TYPES.values())} and application/json")
    return tuple(formats)


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _read_finish(row: Mapping[str, Value], settings: Settings, default_format: str) -> Finish:
    names = (*MEDIA_TYPES, "jpg")
    chosen = {_choice(row, name, names, "") for name in ("format", "output_format") if name in row}
    if len(chosen) > 1:
        raise InvalidInput("output_format", "says something else than format")
    name = (chosen.pop() if chosen else default_format).replace("jpg", "jpeg")
    finish = Finish(
        format=name,
        quality=_within(row, "quality", 1, 100) or DEFAULT_QUALITY,
        size=_within(row, "size", 1, settings.max_picture_size),
        transparent=_choice(row, "background", ("opaque", "transparent"), "opaque") == "transparent",
        metadata=bool(row.get("metadata", False)),
    )
    if finish.transparent and name == "jpeg":
        raise InvalidInput("background", "JPEG has no transparency; ask for png or webp")
    if finish.metadata and name != "png":
        raise InvalidInput("metadata", f"is written into PNG only, not into {name}")
    return finish


def _choice(row: Mapping[str, Value], name: str, choices: Sequence[str], default: str) -> str:
    value = str(row.get(name, default))
    if name in row and value not in choices:
        raise InvalidInput(name, f"must be one of {', '.join(choices)}")
    return value


def _within(row: Mapping[str, Value], name: str, low: int, high: int) -> int | None:
    value: Any = row.get(name)
    if value is not None and not low <= value <= high:
        raise InvalidInput(name, f"must be from {low} to {high}, got {value}")
    return cast("int | None", value)
